"""A run that goes on: from what, where, and by which command."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from lightning.pytorch.loggers import CSVLogger
from tiny import TINY_MODEL, Run

import train
from detector.checkpoint import load_checkpoint
from pinpoint.cli.detection import DetectionCLI, KeepConfig
from pinpoint.cli.resume import drop_later, require_epochs, require_same, require_state, run_folder


def cli_of(run: Run, *options: str) -> DetectionCLI:
    quiet = ["--trainer.logger=false", "--trainer.accelerator=cpu"]
    return DetectionCLI([*run.scenes, *TINY_MODEL, *quiet, *options])


def check(path: str, checkpoint: dict[str, Any], cli: DetectionCLI) -> None:
    now = yaml.safe_load(cli.parser.dump(cli.config, skip_none=False))
    require_same(path, checkpoint, cli.model, yaml.safe_load(checkpoint["config"]), now)
    require_state(path, checkpoint, cli.model, cli.trainer.fit_loop.state_dict())


def refused(checkpoint: dict[str, Any], cli: DetectionCLI) -> str:
    """The one message of a run that cannot go on."""
    with pytest.raises(ValueError, match=r"last\.ckpt") as error:
        check("last.ckpt", checkpoint, cli)
    assert str(error.value).count("\n") == 0
    return str(error.value)


@pytest.mark.parametrize(
    ("option", "named"),
    [
        ("--model.network.channels=24", "--model.network.channels=16 (this run has 24)"),
        ("--model.network.strides=[4,8,16]", "--model.network.strides=[8, 16, 32] (this run has [4, 8, 16])"),
        ("--model.optimizer=SGD", "--model.optimizer=MuonAdamW (this run has SGD)"),
        ("--model.freeze=backbone", "--model.freeze=None (this run has backbone)"),
    ],
)
def test_another_network_or_optimizer_is_named_with_its_option(option: str, named: str, run: Run) -> None:
    message = refused(load_checkpoint(str(run.last)), cli_of(run, option))
    assert f"last.ckpt was trained with {named}: give the same, or start a new training" in message
    assert "--model.init_from=last.ckpt" in message


def test_a_learning_rate_that_has_no_effect_is_said(run: Run) -> None:
    cli, checkpoint = cli_of(run, "--model.optimizer.lr=0.5"), load_checkpoint(str(run.last))
    with pytest.warns(UserWarning, match=r"goes on with --model\.optimizer\.lr=0\.004 \(this run has 0\.5\)"):
        check("last.ckpt", checkpoint, cli)


def test_what_else_is_another_is_said(run: Run, caplog) -> None:
    cli, checkpoint = (
        cli_of(run, "--data.batch_size=3", "--model.loss.gain_box=5"),
        load_checkpoint(str(run.last)),
    )
    with caplog.at_level("INFO"):
        check("last.ckpt", checkpoint, cli)
    assert (
        "last.ckpt goes on with --model.loss.gain_box=5.0 (before: 7.5), --data.batch_size=3 " in caplog.text
    )


@pytest.fixture(scope="module")
def cli(run: Run) -> DetectionCLI:
    return cli_of(run)


def test_what_a_training_saved_is_taken(run: Run, cli: DetectionCLI) -> None:
    for path in (run.best, run.last):
        check(str(path), load_checkpoint(str(path)), cli)


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("loops", {}),
        ("loops", {"fit_loop": {"epoch_progress": {}}}),
        ("loops", [1]),
        ("optimizer_states", []),
        ("optimizer_states", [{"state": {}}]),
        ("optimizer_states", 3),
        ("lr_schedulers", []),
        ("lr_schedulers", [{"base_lrs": [0.1], "last_epoch": 1}]),
        ("callbacks", None),
        ("global_step", -1),
        ("global_step", "many"),
        ("pytorch-lightning_version", 2),
    ],
)
def test_damaged_states_are_refused(part: str, value: object, run: Run, cli: DetectionCLI) -> None:
    refused({**load_checkpoint(str(run.last)), part: value}, cli)


@pytest.mark.parametrize("part", ["loops", "optimizer_states", "lr_schedulers", "global_step"])
def test_weights_alone_are_no_training(part: str, run: Run, cli: DetectionCLI) -> None:
    checkpoint = load_checkpoint(str(run.last))
    del checkpoint[part]
    assert f"not the state of a training ({part})" in refused(checkpoint, cli)


def test_moments_of_other_weights_are_refused(run: Run, cli: DetectionCLI) -> None:
    checkpoint = load_checkpoint(str(run.last))
    checkpoint["optimizer_states"][0]["state"][0]["exp_avg"] = torch.ones(2, 2)
    assert "its optimizer_states do not fit its weights" in refused(checkpoint, cli)


def test_moments_of_rows_and_columns_are_taken(run: Run, cli: DetectionCLI) -> None:
    checkpoint = load_checkpoint(str(run.last))
    for state in checkpoint["optimizer_states"][0]["state"].values():
        state["row_var"], state["col_var"] = torch.ones(8, 1), torch.ones(1, 3)  # as Adafactor's
    check(str(run.last), checkpoint, cli)


def test_fewer_epochs_than_are_done(run: Run) -> None:
    checkpoint = load_checkpoint(str(run.last))
    with pytest.raises(
        ValueError, match=r"last\.ckpt has done 2 epochs, more than --trainer\.max_epochs=1: "
    ):
        require_epochs("last.ckpt", checkpoint, 1)
    for most in (2, 3, None, -1):
        require_epochs("last.ckpt", checkpoint, most)


def test_another_loss_is_called_so(run: Run, tmp_path: Path) -> None:
    other = cli_of(run, "--model.loss.box=wise_iou_v3")
    message = refused(load_checkpoint(str(run.last)), other)
    assert "trained with --model.loss.box=" in message
    assert "wise_iou_v3" in message


def test_run_folders_are_known_by_their_checkpoints_folder(tmp_path: Path) -> None:
    assert run_folder(tmp_path / "version_3" / "checkpoints" / "last.ckpt") == tmp_path / "version_3"
    assert run_folder(tmp_path / "moved.ckpt") is None


def test_a_run_goes_on_in_its_folder_unless_a_new_version_is_asked_for(run: Run) -> None:
    options = [*run.scenes, *TINY_MODEL, "--trainer.accelerator=cpu", f"--ckpt_path={run.last}"]
    assert Path(DetectionCLI(options).trainer.log_dir) == run.folder
    elsewhere = ["--trainer.logger.init_args.name=tiny", f"--trainer.logger.save_dir={run.folder.parents[1]}"]
    cli = DetectionCLI([*options, *elsewhere, "--new_version=true"])
    assert Path(cli.trainer.log_dir) == run.folder.with_name("version_1")
    cli = DetectionCLI([*options, *elsewhere, "--trainer.logger.version=7"])
    assert Path(cli.trainer.log_dir) == run.folder.with_name("version_7")


def test_its_configuration_begins_another_training(run: Run, tmp_path: Path) -> None:
    place = ["--trainer.logger.init_args.name=tiny", f"--trainer.logger.save_dir={run.folder.parents[1]}"]
    options = [*run.scenes, *TINY_MODEL, *place, "--trainer.accelerator=cpu"]
    went_on = DetectionCLI([*options, f"--model.init_from={run.best}", f"--ckpt_path={run.last}"])
    assert Path(went_on.trainer.log_dir) == run.folder
    keep = next(one for one in went_on.trainer.callbacks if isinstance(one, KeepConfig))
    saved: dict[str, Any] = {}
    keep.on_save_checkpoint(went_on.trainer, went_on.model, saved)
    recipe = tmp_path / "config.yaml"
    recipe.write_text(saved["config"])
    config = yaml.safe_load(saved["config"])
    assert config["ckpt_path"] is None
    assert config["model"]["init_from"] == str(run.best)
    assert Path(DetectionCLI([f"--config={recipe}"]).trainer.log_dir) == run.folder.with_name("version_1")


def test_curves_of_lightnings_csv_logger_are_cut_and_kept(tmp_path: Path) -> None:
    first = CSVLogger(tmp_path, "run", 0)
    for step in range(4):
        first.log_metrics({"loss": 4.0 - step} | ({"AP": 0.5} if step == 1 else {}), step)
    first.save()
    again = CSVLogger(tmp_path, "run", 0)
    drop_later([again], Path(again.log_dir).absolute(), 2)
    again.log_metrics({"loss": 9.0}, 2)
    again.save()
    assert (Path(again.log_dir) / "metrics.csv").read_text() == "AP,loss,step\n,4.0,0\n0.5,3.0,1\n,9.0,2\n"


@pytest.mark.slow
def test_the_best_epoch_of_the_whole_run_stays_the_best(run: Run, tmp_path: Path, caplog) -> None:
    # The run goes on for an epoch in another folder; its best epoch so far must not be forgotten.
    options = [*run.scenes, *TINY_MODEL, "--trainer.accelerator=cpu", f"--ckpt_path={run.last}"]
    here = [f"--trainer.logger.save_dir={tmp_path}", "--new_version=true", "--trainer.max_epochs=3"]
    with caplog.at_level("INFO", "lightning.pytorch"):
        train.main([*options, *here, "--model.optimizer.lr=0.004", "--trainer.limit_val_batches=1"])
    last = load_checkpoint(str(next(tmp_path.rglob("last.ckpt"))))
    (state,) = (value for name, value in last["callbacks"].items() if name.startswith("BestCheckpoint"))
    before = load_checkpoint(str(run.best))["callbacks"]
    (score,) = (v["best_model_score"] for name, v in before.items() if name.startswith("BestCheckpoint"))
    assert state["best_model_score"] >= score
    assert f"--ckpt_path {state['best_model_path']}" in caplog.text
