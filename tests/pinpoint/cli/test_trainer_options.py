"""Options of Lightning's trainer that would spoil a training are refused before it."""

from pathlib import Path

import pytest
from tiny import TINY_MODEL, Run, tiny_scenes

from pinpoint.cli.detection import DetectionCLI
from pinpoint.cli.trainer_options import UNFIT

SCENES = ["--data=ScenesDataModule", "--trainer.accelerator=cpu"]


@pytest.mark.parametrize(
    "name", ["fsdp", "deepspeed_stage_2", "lightning.pytorch.strategies.ModelParallelStrategy"]
)
def test_strategies_that_divide_weights(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name.rpartition('.')[2]} divides the weights among the ranks"):
        DetectionCLI([*SCENES, f"--trainer.strategy={name}"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["strategy=ddp_spawn"], "use ddp, or ddp_fork on CPUs"),
        (["strategy=DDPStrategy", "strategy.start_method=spawn"], "use ddp, or ddp_fork on CPUs"),
        (["use_distributed_sampler=true"], "leave it out"),
        (["overfit_batches=2"], r"with --data\.fraction=0\.01"),
        (["overfit_batches=0.5"], r"with --data\.fraction=0\.01"),
        (["limit_train_batches=0"], "trains nothing"),
        (["max_epochs=0"], r"--trainer\.max_epochs=0 trains nothing"),
        (["max_steps=0"], r"--trainer\.max_steps=0 trains nothing"),
        (["gradient_clip_val=-1"], "must not be negative, and 0 is for no clipping"),
        (["check_val_every_n_epoch=0"], r"must be at least 1; --trainer\.limit_val_batches=0 is for"),
    ],
)
def test_options_that_do_not_go_with_ours(options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DetectionCLI([*SCENES, *(f"--trainer.{option}" for option in options)])


@pytest.mark.parametrize("name", UNFIT)
def test_callbacks_that_do_not_go_with_ours(name: str) -> None:
    options = {
        "GradientAccumulationScheduler": ["--trainer.callbacks.scheduling={1: 4}"],
        "ModelPruning": ["--trainer.callbacks.pruning_fn=l1_unstructured"],
        "StochasticWeightAveraging": ["--trainer.callbacks.swa_lrs=0.001"],
    }
    with pytest.raises(ValueError, match=f"^{name} does not go with "):
        DetectionCLI([*SCENES, f"--trainer.callbacks+={name}", *options.get(name, [])])


def test_intervals_of_time_and_a_single_plugin_are_taken(tmp_path: Path) -> None:
    options = [*tiny_scenes(tmp_path), *TINY_MODEL, "--trainer.accelerator=cpu"]
    timed = ["--trainer.val_check_interval=00:00:00:01", "--trainer.check_val_every_n_epoch=null"]
    plugin = ["--trainer.plugins=AsyncCheckpointIO", "--trainer.sync_batchnorm=true"]
    cli = DetectionCLI([*options, *timed, *plugin])
    assert cli.trainer.val_check_interval is None
    assert type(cli.trainer.strategy.checkpoint_io).__name__ == "AsyncCheckpointIO"


def test_a_logger_that_is_only_wanted_is_that_of_the_recipes(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli = DetectionCLI(
        [*tiny_scenes(tmp_path), *TINY_MODEL, "--trainer.accelerator=cpu", "--trainer.logger=true"]
    )
    assert str(cli.trainer.log_dir) == str(Path("runs", "lightning_logs", "version_0"))


def test_a_run_folder_that_is_named_twice(run: Run, tmp_path: Path) -> None:
    before = run.best.read_bytes()
    named = [f"--trainer.logger.save_dir={run.folder.parents[1]}", "--trainer.logger.name=tiny"]
    options = [*run.scenes, *TINY_MODEL, "--trainer.accelerator=cpu", "--trainer.logger.version=0", *named]
    message = r"last\.ckpt is of another training, .*--trainer\.logger\.version=NAME"
    with pytest.raises(ValueError, match=message):
        DetectionCLI(options).fit()
    assert run.best.read_bytes() == before
