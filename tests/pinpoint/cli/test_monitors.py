"""Scores that callbacks watch: known ones pass, others are refused before the training."""

from pathlib import Path

import pytest
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from tiny import TINY_MODEL, tiny_scenes

from detector.training.checkpoints import BestCheckpoint
from pinpoint.cli.detection import DetectionCLI
from pinpoint.cli.monitors import check_monitors
from pinpoint.cli.wrong_values import explain_value


@pytest.mark.parametrize(
    "name",
    ["val/map", "val/AP50", "val/AP_0_8", "val/AP50/car", "val/AR10", "val/loss_box", "Scores/AP_small"],
)
def test_what_is_logged_can_be_watched(name: str) -> None:
    check_monitors([EarlyStopping(name), ModelCheckpoint(), LearningRateMonitor()], ["car"])


def test_the_name_of_the_tables_is_taken_for_the_logged_one() -> None:
    stopping = EarlyStopping("val/AP", mode="max")
    check_monitors([stopping], ["car"])
    assert stopping.monitor == "val/map"


@pytest.mark.parametrize("name", ["train/loss", "assigner/unassigned_0_8", "own/score"])
def test_other_names_are_not_judged(name: str) -> None:
    check_monitors([ModelCheckpoint(monitor=name)], ["car"])


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("AP", r"did you mean val/map\?"),
        ("val_loss", r"did you mean val/loss"),
        ("mAP", r"did you mean val/map\?"),
        ("val/AP50/ship", r"val/NAME any other score"),
        ("val/AP50s", r"did you mean .*val/AP50"),
    ],
)
def test_a_score_that_is_not_logged_is_refused(name: str, meant: str) -> None:
    with pytest.raises(ValueError, match=rf"EarlyStopping watches {name}, which is not logged: .*{meant}"):
        check_monitors([EarlyStopping(name)], ["car", "van"])


def test_a_loss_that_is_not_logged_is_refused() -> None:
    with pytest.raises(ValueError, match=r"watches train/los, .*did you mean train/loss"):
        check_monitors([ModelCheckpoint(monitor="train/los")], ["car"])


def test_no_score_can_be_watched_where_nothing_is_validated() -> None:
    check_monitors([BestCheckpoint(), EarlyStopping("train/loss")], ["car"], validates=False)
    with pytest.raises(
        ValueError, match=r"EarlyStopping watches val/map, and --trainer\.limit_val_batches=0"
    ):
        check_monitors([EarlyStopping("val/map")], ["car"], validates=False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=AP50"], "watches AP50,"),
        (["--trainer.devices=-1", "--trainer.accelerator=cpu"], "^--trainer: `devices` selected with"),
    ],
)
def test_the_command_line_says_so_before_training(tmp_path: Path, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectionCLI([*tiny_scenes(tmp_path), *TINY_MODEL, *options])


def test_a_class_that_cannot_be_built_says_why() -> None:
    message = """Does not validate against any of the Union subtypes
Errors:
  - Problem with given class_path 'lightning.pytorch.loggers.WandbLogger':
      Requirement 'wandb>=0.12.10' not met. HINT: Try running `pip install -U 'wandb>=0.12.10'`
  - Expected a <class 'NoneType'>
Given value: Namespace(class_path='lightning.pytorch.loggers.WandbLogger')"""
    said = explain_value("trainer", message)
    assert said is not None
    assert said.startswith(
        "WandbLogger: Requirement 'wandb>=0.12.10' not met. HINT: Try running `pip install"
    )
    assert "\n" not in said
    assert explain_value("model.network", "the weights do not fit") is None
