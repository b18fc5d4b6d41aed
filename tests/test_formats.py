"""Every data format through the scripts: trained on, and scored on its test split."""

import json
from pathlib import Path

import pytest
from tiny import TINY_MODEL
from tiny_data import SIDE, write_visdrone, write_voc, write_yolo

import evaluate
import train


def visdrone(root: Path) -> list[str]:
    write_visdrone(root)
    return ["--data=VisDroneDataModule", f"--data.root={root}"]


def yolo(root: Path) -> list[str]:
    file = write_yolo(root)
    return ["--data=YoloDataModule", f"--data.yaml={file}", "--data.ignore_categories=[unclear]"]


def voc(root: Path) -> list[str]:
    write_voc(root)
    return ["--data=VocDataModule", f"--data.root={root}"]


@pytest.mark.slow
@pytest.mark.parametrize("make_data", [visdrone, yolo, voc])
def test_train_and_score_the_test_split(make_data, tmp_path: Path) -> None:
    root = tmp_path / "data"
    data = [*make_data(root), f"--data.image_size=[{SIDE},{SIDE}]", "--data.batch_size=2"]
    here = ["--data.num_workers=0", "--trainer.accelerator=cpu"]
    here += ["--trainer.max_epochs=1", f"--trainer.logger.init_args.save_dir={tmp_path}"]
    train.main([*data, *TINY_MODEL, *here, "--data.on_error=skip"])
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    arguments = ["--ckpt_path", str(checkpoint), "--split", "test", "--output", str(tmp_path), "--no-report"]
    evaluate.main(arguments)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["split"] == "test"
    assert 0 <= metrics["AP/car"] <= 1
    assert "AP_without_ignored_regions" in metrics
    assert ("visdrone" in metrics) == (make_data is visdrone)

    # One of the two images of the test split is cut: it is left out, the other is scored.
    image = max(path for path in root.rglob("*.jpg") if "test" in str(path.relative_to(root)))
    image.write_bytes(image.read_bytes()[:-100])
    with pytest.warns(UserWarning, match="test split: 1 of 2 images are left out"):
        evaluate.main(arguments)
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    assert {p["image_id"] for p in predictions} == {1}
    with pytest.raises(ValueError, match=f"{image.name} is truncated"):
        evaluate.main([*arguments, "--data.on_error=raise"])
