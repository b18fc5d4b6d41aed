"""Sampling and class weights as a user asks for them: in YAML, through train.py."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY_MODEL

import train
from datamodules.batch import Batch
from detector.checkpoint import load_checkpoint
from detector.module import Detector
from pinpoint.cli.errors import user_errors

SHAPES = ((96, 96), (60, 160), (160, 60))

OPTIONS = {
    "repeat_threshold": "data: {init_args: {sampling: {repeat_threshold: 0.5}}}",
    "background": "data: {init_args: {sampling: {background: 0.5}}}",
    "rectangular": "data: {init_args: {sampling: {rectangular: true}}}",
    "multi_scale": "data: {init_args: {sampling: {multi_scale: [0.5, 2]}}}",
    "class_weights": "model: {loss: {class_weights: [1, 4]}}",
}
EVERYTHING = """\
trainer: # without figures, which take most of the time
  callbacks:
    - class_path: EMA
    - class_path: ModelCheckpoint
      init_args: { filename: last, save_on_exception: true, enable_version_counter: false }
data:
  init_args:
    sampling: { repeat_threshold: 0.5, background: 0.25, rectangular: true, multi_scale: [0.5, 2] }
model:
  loss: { class_weights: [1, 4] }
"""


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    """A data set of 12 images of three shapes: cars in nine, a truck in one of those, three empty."""
    folder = tmp_path / "data"
    folder.mkdir()
    images, boxes = [], []
    for i in range(12):
        height, width = SHAPES[i % 3]
        cv2.imwrite(str(folder / f"{i}.png"), np.full((height, width, 3), 20 * i, np.uint8))
        images.append({"id": i, "file_name": f"{i}.png", "width": width, "height": height})
        for category in (1, 2) if i == 0 else (1,) if i < 9 else ():
            box = {"image_id": i, "category_id": category, "bbox": [9, 9, 20, 20], "area": 400, "iscrowd": 0}
            boxes.append({"id": len(boxes), **box})
    categories = [{"id": 1, "name": "car"}, {"id": 2, "name": "truck"}]
    file = folder / "annotations.json"
    file.write_text(json.dumps({"images": images, "categories": categories, "annotations": boxes}))
    return [
        "--data=CocoDataModule",
        *(
            f"--data.{split}_{what}"
            for split in ("train", "val")
            for what in (f"images={folder}", f"annotations={file}")
        ),
        "--data.image_size=[96,96]",
        "--data.batch_size=2",
        "--data.num_workers=0",
        *TINY_MODEL,
        "--trainer.accelerator=cpu",
        f"--trainer.logger.init_args.save_dir={tmp_path / 'runs'}",
    ]


def recipe(folder: Path, text: str) -> str:
    """The option that reads a YAML of these lines."""
    file = folder / "recipe.yaml"
    file.write_text(text)
    return f"--config={file}"


def train_and_watch(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], fail_at: int | None = None
) -> list[Batch]:
    """The batches that train.py trains on; a step may fail."""
    batches, step = [], Detector.training_step

    def watched(self: Detector, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.global_step == fail_at:
            raise RuntimeError("power cut")
        batches.append(batch)
        return step(self, batch, batch_idx)

    with monkeypatch.context() as patch:
        patch.setattr(Detector, "training_step", watched)
        train.main(arguments)
    return batches


@pytest.mark.slow
@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_trains(option: str, options: list[str], tmp_path: Path) -> None:
    data = [options[0]]  # the class of the data first, so that the recipe can name its options
    train.main([*data, recipe(tmp_path, OPTIONS[option]), *options[1:], "--trainer.fast_dev_run=3"])


@pytest.mark.slow
def test_all_options_together_and_a_resume(
    options: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = [options[0], recipe(tmp_path, EVERYTHING), *options[1:], "--trainer.max_epochs=2"]
    whole = train_and_watch(monkeypatch, arguments)
    # The truck is in one image of 12: sqrt(0.5 * 12) = 2.45 showings, and one of each of the eight others; a
    # third of these 10.45 without objects, 3.48. Of the 13.93 showings, six batches of two.
    assert len(whole) == 12
    sizes = [tuple(batch.images.shape[2:]) for batch in whole]
    assert all(height % 32 == width % 32 == 0 for height, width in sizes)
    assert len(set(sizes)) > 4
    (end,) = tmp_path.rglob("last.ckpt")
    expected = load_checkpoint(str(end))["state_dict"]

    second = [o for o in arguments if "save_dir" not in o] + [
        f"--trainer.logger.init_args.save_dir={tmp_path / 'two'}"
    ]
    with pytest.raises(RuntimeError, match="power cut"):
        train_and_watch(monkeypatch, second, fail_at=9)
    (checkpoint,) = (tmp_path / "two").rglob("last.ckpt")
    rest = train_and_watch(monkeypatch, [*second, f"--ckpt_path={checkpoint}"])
    assert len(rest) == 3
    assert all(torch.equal(ours.images, theirs.images) for ours, theirs in zip(rest, whole[9:], strict=True))
    resumed = load_checkpoint(str(max((tmp_path / "two").rglob("last.ckpt"))))["state_dict"]
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            "model: {loss: {class_weights: [1, 2, 3]}}",
            "has 3 weights for 2 classes: give one for each, in the order car, truck",
        ),
        ("model: {loss: {class_weights: [1]}}", "has 1 weights for 2 classes"),
        ("model: {loss: {class_weights: [1, -2]}}", "class_weights must be positive numbers"),
        (
            "data: {init_args: {sampling: {repeat_threshold: 2}}}",
            "repeat_threshold must lie in (0, 1], got 2",
        ),
        ("data: {init_args: {sampling: {multi_scale: [2, 1]}}}", "multi_scale must be two factors"),
        (
            "data: {init_args: {sampling: {background: 0.5}}}",
            "but 0 of the 9 training images are without objects",
        ),
    ],
)
def test_mistakes_give_one_message(
    wrong: str,
    message: str,
    options: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PINPOINT_TRACEBACK", raising=False)
    if "background" in wrong:  # leave out the images without objects
        file = tmp_path / "data" / "annotations.json"
        data = json.loads(file.read_text())
        file.write_text(json.dumps(data | {"images": data["images"][:9]}))
    with pytest.raises(SystemExit) as stop, user_errors():
        train.main([options[0], recipe(tmp_path, wrong), *options[1:], "--trainer.fast_dev_run=1"])
    assert stop.value.code not in (0, None)
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error
