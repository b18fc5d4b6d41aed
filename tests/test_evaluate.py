"""What evaluate.py leaves behind: the report, VisDrone's protocol, differences from another run."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from test_scripts import coco_options, events, fails, log_to, write_coco
from tiny import TINY_MODEL, Run

import evaluate
import train
from datamodules.batch import Annotations, ImageInfo
from datamodules.formats.visdrone import CLASS_NAMES
from datamodules.images.decoding import image_loader, read_image
from datamodules.records import Record, Records
from detector.tiling.views import Tiling
from evaluation import visdrone
from pinpoint.cli.detection import DetectionCLI, load_checkpoint
from pinpoint.cli.evaluate import results_folder


def score(checkpoint: Path, output: Path, *options: str) -> dict[str, object]:
    """Run evaluate.py without a report, unless the options say otherwise; returns its metrics.json."""
    evaluate.main(["--ckpt_path", str(checkpoint), "--output", str(output), *options])
    return json.loads((output / "metrics.json").read_text())


@pytest.fixture(scope="module")
def scored(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a whole evaluation of the shared run."""
    folder = tmp_path_factory.mktemp("scored")
    score(run.best, folder)
    return folder


@pytest.fixture(scope="module")
def drone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A checkpoint trained for one step on two images of VisDrone's format, and the folder of the data."""
    root = tmp_path_factory.mktemp("drone")
    for split in ("train", "val"):
        folder = root / f"VisDrone2019-DET-{split}"
        (folder / "images").mkdir(parents=True)
        (folder / "annotations").mkdir()
        for name in ("a", "b"):
            cv2.imwrite(str(folder / "images" / f"{name}.jpg"), np.full((64, 96, 3), 99, np.uint8))
            # A car, an ignored region over the right half, and an object of another kind.
            rows = "9,9,20,20,1,4,0,0\n48,0,48,64,0,0,0,0,\n5,50,9,9,1,11,0,0\n"
            (folder / "annotations" / f"{name}.txt").write_text(rows)
    data = ["--data=VisDroneDataModule", f"--data.root={root}", "--data.image_size=[96,96]"]
    data += ["--data.batch_size=2", "--data.num_workers=0", f"--trainer.logger.init_args.save_dir={root}"]
    train.main([*data, *TINY_MODEL, "--trainer.max_epochs=1", "--trainer.accelerator=cpu"])
    (checkpoint,) = root.rglob("last.ckpt")
    return checkpoint, root


# Report


@pytest.mark.slow
def test_evaluate_writes_a_report_with_its_figures(scored: Path) -> None:
    page = (scored / "report.html").read_text()
    assert "http" not in page
    pictures = {path.stem for path in (scored / "figures").glob("*.png")}
    assert {"sizes", "errors", "curves", "confusion", "calibration", "crowding", "gallery"} <= pictures
    assert page.count("data:image/png") == len(pictures)


def test_metrics_say_where_the_detector_fails(scored: Path) -> None:
    metrics = json.loads((scored / "metrics.json").read_text())
    assert metrics["analysis"]["errors"].keys() >= {"missed", "background"}
    assert metrics["analysis"]["confusion"]["rows"] == ["person", "car", "truck", "nothing"]
    # Scenes have ignored regions, but no files of VisDrone's.
    assert "AP_without_ignored_regions" in metrics
    assert not {"visdrone", "against"} & metrics.keys()


def test_the_report_can_be_left_out(run: Run, tmp_path: Path) -> None:
    score(run.best, tmp_path, "--no-report")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "images.json",
        "metrics.json",
        "predictions.json",
    ]


def test_results_say_what_was_scored(run: Run, scored: Path) -> None:
    metrics = json.loads((scored / "metrics.json").read_text())
    images = json.loads((scored / "images.json").read_text())
    assert metrics["images"] == len(images["images"]) == 3
    assert metrics["objects"] > 0
    assert metrics["data"]["root"] in " ".join(run.scenes)
    assert {"id", "file_name", "width", "height"} == images["images"][0].keys()
    predicted = json.loads((scored / "predictions.json").read_text())
    assert {p["image_id"] for p in predicted} <= {image["id"] for image in images["images"]}
    assert [c["name"] for c in images["categories"]] == ["person", "car", "truck"]
    name = images["images"][0]["file_name"]
    assert name in (scored / "report.html").read_text()


def test_a_moved_checkpoint_is_scored_beside_itself(run: Run, tmp_path: Path, monkeypatch) -> None:
    moved = tmp_path / "elsewhere" / "best.ckpt"
    moved.parent.mkdir()
    moved.write_bytes(run.best.read_bytes())
    monkeypatch.chdir(moved.parent)
    evaluate.main(["--ckpt_path", "best.ckpt", "--no-report"])
    assert (moved.parent / "evaluation_val" / "metrics.json").is_file()


def test_results_are_named_after_what_was_scored() -> None:
    best = Path("/runs/custom/version_0/checkpoints/best.ckpt")
    assert results_folder(best, "val", []) == Path("/runs/custom/version_0/evaluation_val")
    soft = results_folder(best, "val", ["--model.postprocess.suppression=soft"])
    assert soft.name == "evaluation_val_suppression-soft"
    tiled = {results_folder(best, "val", [], Tiling(640, overlap)).name for overlap in (0.2, 0.3)}
    assert tiled == {"evaluation_val_tiles-640", "evaluation_val_tiles-640-overlap-0.3"}
    assert results_folder(best.with_suffix(".onnx"), "val", []).name == "evaluation_val_best.onnx"
    assert results_folder(best.with_name("last.ckpt"), "test", ["--data.yaml=x/boats.yaml"]) == Path(
        "/runs/custom/version_0/evaluation_test_last_boats"
    )


def test_results_of_a_hub_folder_have_its_whole_name(tmp_path: Path, monkeypatch) -> None:
    folder = tmp_path / "det-v1.2"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for path in (folder, Path(".")):
        assert results_folder(path, "val", []) == tmp_path / "evaluation_val_det-v1.2"


def test_a_folder_that_cannot_be_written_is_told_before_scoring(
    run: Run, tmp_path, capsys, monkeypatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr("lightning.pytorch.Trainer.validate", lambda *_, **__: pytest.fail("scored first"))
    args = ["--ckpt_path", str(run.best), "--output", str(tmp_path / "file" / "deeper")]
    assert "use --output DIR" in fails(capsys, monkeypatch, evaluate.main, args)


@pytest.mark.slow
def test_how_the_training_ran_does_not_live_on(run: Run, tmp_path: Path) -> None:
    options = [
        *run.scenes,
        *TINY_MODEL,
        *log_to(tmp_path),
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=1",
    ]
    limits = [
        "--trainer.limit_val_batches=1",
        "--trainer.limit_train_batches=1",
        "--trainer.max_time=00:01:00:00",
    ]
    train.main(
        [*options, *limits, "--data.val_batch_size=2", "--trainer.profiler=simple", "--trainer.precision=64"]
    )
    (last,) = tmp_path.rglob("last.ckpt")
    cli = DetectionCLI.from_checkpoint(load_checkpoint(str(last)), [])
    assert cli.trainer.limit_val_batches == 1.0
    assert cli.trainer.precision == "32-true"
    assert type(cli.trainer.profiler).__name__ == "PassThroughProfiler"
    assert score(last, tmp_path / "scored", "--no-report")["images"] == 3


def record(folder: Path, image_id: int, name: str, side: int) -> Record:
    path = folder / Path(name).name
    cv2.imwrite(str(path), np.full((side, side, 3), image_id, np.uint8))
    none, nobody = np.empty((0, 4), np.float32), np.empty(0, np.int64)
    annotations = Annotations(none, nobody, np.empty(0, np.float32), none, nobody)
    return Record(str(path), ImageInfo(image_id, name, (side, side)), annotations)


def test_images_are_read_by_id_in_their_own_size(tmp_path: Path) -> None:
    records = [record(tmp_path, 7, "x/a.png", 30), record(tmp_path, 40, "b.png", 50)]
    load = image_loader(Records(["car"], [1], records))
    np.testing.assert_array_equal(load(40), read_image(records[1]))
    assert load(40).shape == (50, 50, 3)
    assert load(7).shape == (30, 30, 3)


# VisDrone's protocol


@pytest.mark.slow
def test_visdrone_is_scored_by_its_own_protocol(
    drone: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, root = drone
    folder = tmp_path / "submission"
    metrics = score(checkpoint, tmp_path, "--no-report", "--submission", str(folder))
    assert "VisDrone's protocol" in capsys.readouterr().out
    # The files that one would hand in, scored from disk, give the numbers scored from memory.
    sizes = {"a": (96, 64), "b": (96, 64)}
    official = visdrone.evaluate(root / "VisDrone2019-DET-val" / "annotations", folder, CLASS_NAMES, sizes)
    assert metrics["visdrone"].keys() == official.keys()
    for name, value in official.items():
        assert metrics["visdrone"][name] == pytest.approx(value if value == value else None), name
    assert {path.name for path in folder.iterdir()} == {"a.txt", "b.txt"}
    assert (folder / "a.txt").read_text().count("\n") > 0
    assert 0 <= metrics["AP_without_ignored_regions"] <= metrics["AP"] + 1e-9


def test_a_part_of_the_images_has_no_official_score(
    drone: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--no-report", "--data.batch_size=1", "--trainer.limit_val_batches=1"]
    assert "visdrone" not in score(drone[0], tmp_path, *options)
    assert "only 1 of 2 were" in capsys.readouterr().out


def test_the_protocol_reads_the_split_that_is_scored(drone: tuple[Path, Path]) -> None:
    data = DetectionCLI(["--data=VisDroneDataModule", f"--data.root={drone[1]}"], False).datamodule
    data.setup("fit")
    assert data.official_annotations == drone[1] / "VisDrone2019-DET-val" / "annotations"
    data.records["test"] = data.records["val"]
    data.setup("test")
    assert data.official_annotations == drone[1] / "VisDrone2019-DET-test-dev" / "annotations"


def test_a_submission_takes_the_categories_of_any_data(run: Run, tmp_path: Path) -> None:
    # "truck" is the first category of the data set, and class 2 of the model.
    file = write_coco(tmp_path / "data", names=("truck",))
    options = ["--no-report", "--submission", str(tmp_path / "files"), *coco_options(file)]
    metrics = score(run.best, tmp_path, *options)
    assert "AP_without_ignored_regions" not in metrics  # there are none
    predictions = json.loads((tmp_path / "predictions.json").read_text())
    expected = [p["category_id"] for p in predictions if p["image_id"] == 1]
    rows = (tmp_path / "files" / "1.txt").read_text().splitlines()
    assert sorted(int(row.split(",")[5]) for row in rows) == sorted(expected)


def test_images_of_one_name_cannot_be_submitted() -> None:
    assert visdrone.result_names({7: "a/x.png", 9: "b/y.z.jpg"}) == {7: "x", 9: "y.z"}
    with pytest.raises(ValueError, match=r"b/x\.png and a/x\.png would have the same result file, x\.txt"):
        visdrone.result_names({7: "a/x.png", 9: "b/x.png"})


# Against another run


def test_a_run_against_itself_differs_by_nothing(
    run: Run, scored: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    metrics = score(run.best, tmp_path, "--no-report", "--against", str(scored / "metrics.json"))
    found = metrics["against"]
    assert found["predictions"] == str(scored / "predictions.json")
    for name in ("AP", "AP50", "AP_small"):
        assert found[name]["this"] == found[name]["other"] == pytest.approx(metrics[name], abs=1e-9)
        assert found[name]["low"] == found[name]["difference"] == found[name]["high"] == 0
    assert "95 % interval" in capsys.readouterr().out


def test_a_run_against_nothing_found(run: Run, tmp_path: Path) -> None:
    (tmp_path / "predictions.json").write_text("[]")
    metrics = score(run.best, tmp_path, "--no-report", "--against", str(tmp_path / "predictions.json"))
    assert metrics["against"]["AP"]["other"] == 0
    assert metrics["against"]["AP"]["difference"] == pytest.approx(metrics["AP"], abs=1e-9)


def test_metrics_alone_cannot_be_compared(
    run: Run, scored: Path, capsys, monkeypatch, tmp_path: Path
) -> None:
    (tmp_path / "metrics.json").write_text((scored / "metrics.json").read_text())
    args = ["--ckpt_path", str(run.best), "--against", str(tmp_path / "metrics.json")]
    assert "no predictions.json beside it" in fails(capsys, monkeypatch, evaluate.main, args)


def test_another_run_of_other_images(run: Run, capsys, monkeypatch, tmp_path: Path) -> None:
    file = tmp_path / "other.json"
    file.write_text(json.dumps([{"image_id": 999, "category_id": 1, "bbox": [0, 0, 9, 9], "score": 0.5}]))
    args = ["--ckpt_path", str(run.best), "--output", str(tmp_path), "--against", str(file)]
    message = fails(capsys, monkeypatch, evaluate.main, args)
    assert "image 999" in message
    assert str(file) in message
    # What took the time is there.
    assert {"metrics.json", "predictions.json", "images.json"} <= {path.name for path in tmp_path.iterdir()}


def test_another_run_of_other_images_of_the_same_ids(
    run: Run, scored: Path, capsys, monkeypatch, tmp_path: Path
) -> None:
    images = json.loads((scored / "images.json").read_text())["images"]
    images[0]["file_name"] = "elsewhere/other.png"
    images[1]["file_name"] = f"moved/{Path(images[1]['file_name']).name}"
    (tmp_path / "images.json").write_text(json.dumps({"images": images}))
    (tmp_path / "predictions.json").write_text("[]")
    args = ["--ckpt_path", str(run.best), "--output", str(tmp_path / "out"), "--no-report"]
    message = fails(
        capsys, monkeypatch, evaluate.main, [*args, "--against", str(tmp_path / "predictions.json")]
    )
    assert f"is of {len(images)} images, of which {len(images) - 1} are among the {len(images)} " in message
    assert (tmp_path / "out" / "metrics.json").exists()


# TensorBoard


def test_tensorboard_shows_the_figures_of_the_last_validation(run: Run) -> None:
    figures = [tag for tag in events(run).Tags()["images"] if tag.startswith("evaluation/")]
    expected = {
        f"evaluation/{name}" for name in ("sizes", "errors", "curves", "calibration", "worst_1", "gallery")
    }
    assert expected <= set(figures)
    # Two epochs of three steps: drawn once, where the last scores are.
    assert [event.step for event in events(run).Images("evaluation/sizes")] == [5]


def test_without_validation_no_figures_are_drawn(run: Run, tmp_path: Path, monkeypatch) -> None:
    # The sanity check scores a batch, which is no score of the training.
    draw_all = "detector.training.pictures.draw_all"
    monkeypatch.setattr(draw_all, lambda *_: pytest.fail("drew the sanity check"))
    options = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    options += ["--trainer.check_val_every_n_epoch=null", "--trainer.val_check_interval=99"]
    train.main([*run.scenes, *TINY_MODEL, *options, f"--trainer.logger.init_args.save_dir={tmp_path}"])
