"""Runs that are stopped, and go on, come to what an undisturbed run comes to, to the last bit."""

import csv
import os
import signal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import TINY_MODEL, Run

import train
from detector.checkpoint import load_checkpoint
from detector.module import Detector
from detector.training.checkpoints import BestCheckpoint
from detector.training.files import WholeFiles, write_whole


def go(run: Run, folder: Path, *options: str) -> None:
    """The fixture's training in another folder: two epochs of three steps, each validated."""
    train.main(
        [
            *run.scenes,
            *TINY_MODEL,
            "--trainer.max_epochs=2",
            "--trainer.accelerator=cpu",
            f"--trainer.logger.init_args.save_dir={folder}",
            "--trainer.logger.init_args.name=tiny",
            "--trainer.log_every_n_steps=1",
            *options,
        ]
    )


def go_until(
    hook: str,
    step: int,
    run: Run,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *options: str,
    signum: int = signal.SIGTERM,
) -> Path:
    """The same until a signal comes in a hook of the module, after `step` steps; where it goes on from."""
    original = getattr(Detector, hook)

    def strike(self: Detector, *args: object) -> object:
        if not self.trainer.sanity_checking and self.global_step == step:
            os.kill(os.getpid(), signum)
        return original(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Detector, hook, strike)
        with pytest.raises(SystemExit) as stopped:
            go(run, folder, *options)
    assert stopped.value.code == 128 + signum
    return folder / "tiny" / "version_0" / "checkpoints" / "last.ckpt"


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    return [{k: v for k, v in row.items() if k not in ("images_per_second", "seconds")} for row in table]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows; not-a-number as text, since it equals nothing."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(event.step, repr(event.value)) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def assert_same(whole: Path, other: Path) -> None:
    """Weights, average, optimizer and logs of two run folders."""
    ours, theirs = (load_checkpoint(str(f / "checkpoints" / "last.ckpt")) for f in (whole, other))
    assert ours["global_step"] == theirs["global_step"]
    for part in ("state_dict", "current_model_state"):
        for name, value in ours[part].items():
            assert torch.equal(value, theirs[part][name]), (part, name)
    for state, moments in ours["optimizer_states"][0]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, theirs["optimizer_states"][0]["state"][state][name])
    assert rows(whole) == rows(other)
    assert curves(whole) == curves(other)


STEP, LAST_STEP, VALIDATION, EPOCH_END = "training_step", "last", "validation_step", "on_train_epoch_end"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("moment", "signum", "workers", "steps"),
    [
        (STEP, signal.SIGINT, 0, 2),
        (LAST_STEP, signal.SIGTERM, 2, 3),
        (VALIDATION, signal.SIGTERM, 0, 3),
        (EPOCH_END, signal.SIGUSR1, 2, 3),
    ],
)
def test_a_run_that_is_stopped_goes_on_as_if_nothing_had_been(
    moment: str,
    signum: int,
    workers: int,
    steps: int,
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys,
) -> None:
    hook = STEP if moment == LAST_STEP else moment
    at = {STEP: 1, LAST_STEP: 2}.get(moment, 3)
    loading = f"--data.num_workers={workers}"
    checkpoint = go_until(hook, at, run, tmp_path, monkeypatch, loading, signum=signum)
    said = capsys.readouterr().err.splitlines()
    folder = tmp_path / "tiny" / "version_0"
    named = signal.Signals(signum).name
    assert any(f"stopped by {named} after {steps} steps; go on with: " in line for line in said)
    assert any(line.endswith(f"--ckpt_path={checkpoint}") for line in said)
    assert load_checkpoint(str(checkpoint))["global_step"] == steps

    go(run, tmp_path, loading, f"--ckpt_path={checkpoint}")
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == ["version_0"]
    assert_same(run.folder, folder)


@pytest.mark.slow
def test_gradients_that_wait_for_those_of_another_batch_are_not_lost(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--trainer.accumulate_grad_batches=2", "--trainer.val_check_interval=1"]
    options += ["--trainer.limit_val_batches=1", "--trainer.max_epochs=1", "--trainer.num_sanity_val_steps=0"]
    options += ["--trainer.callbacks=[{class_path: EMA}, {class_path: LastCheckpoint}]"]  # no pictures
    go(run, tmp_path / "whole", *options)
    # After the first of two batches.
    checkpoint = go_until(VALIDATION, 0, run, tmp_path / "cut", monkeypatch, *options)
    assert load_checkpoint(str(checkpoint))["global_step"] == 1
    go(run, tmp_path / "cut", *options, f"--ckpt_path={checkpoint}")
    last = "tiny/version_0/checkpoints/last.ckpt"
    whole, cut = (load_checkpoint(str(tmp_path / name / last)) for name in ("whole", "cut"))
    assert whole["global_step"] == cut["global_step"] == 2
    for name, value in whole["current_model_state"].items():
        assert torch.equal(value, cut["current_model_state"][name]), name


@pytest.mark.slow
def test_curves_are_the_same_where_validations_come_by_steps_of_the_whole_run(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ["--trainer.check_val_every_n_epoch=null", "--trainer.val_check_interval=2"]
    options += ["--trainer.limit_val_batches=1"]
    go(run, tmp_path / "whole", *options)
    # In the first step of the second epoch, after which there is a validation.
    checkpoint = go_until(STEP, 3, run, tmp_path / "cut", monkeypatch, *options)
    assert load_checkpoint(str(checkpoint))["global_step"] == 4
    go(run, tmp_path / "cut", *options, f"--ckpt_path={checkpoint}")
    assert_same(tmp_path / "whole" / "tiny" / "version_0", tmp_path / "cut" / "tiny" / "version_0")


@pytest.mark.parametrize(
    ("interval", "epochs", "at_the_end"), [(1.0, 1, True), (1, 1, False), (0.5, 1, False), (1.0, None, False)]
)
def test_the_best_is_saved_where_it_was_validated(
    interval: float, epochs: int | None, at_the_end: bool
) -> None:
    trainer: Any = SimpleNamespace(val_check_interval=interval, check_val_every_n_epoch=epochs)
    assert BestCheckpoint()._should_save_on_train_epoch_end(trainer) is at_the_end


@pytest.fixture(scope="module")
def dropping() -> str:
    """A backbone that leaves out some of its branches by chance, drawn from torch's own generator."""

    def tiny_dropping(**options: object) -> torch.nn.Module:
        return timm.models.mobilenetv4_conv_small_050(drop_path_rate=0.5, **options)

    tiny_dropping.__module__ = "timm.models.mobilenetv3"
    return timm.models.register_model(tiny_dropping).__name__


@pytest.mark.slow
def test_a_network_that_draws_random_numbers_goes_on_with_the_same_ones(
    dropping: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"--model.network.backbone={dropping}", "--trainer.limit_val_batches=0"]
    go(run, tmp_path / "whole", *options)
    for workers, last in ((0, 2), (2, 3)):  # within an epoch, and at its end
        folder, loading = tmp_path / str(workers), f"--data.num_workers={workers}"
        checkpoint = go_until(STEP, last - 1, run, folder, monkeypatch, *options, loading)
        go(run, folder, *options, loading, f"--ckpt_path={checkpoint}")
        assert_same(tmp_path / "whole" / "tiny" / "version_0", folder / "tiny" / "version_0")


def test_a_file_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, files = tmp_path / "run" / "last.ckpt", WholeFiles()
    files.save_checkpoint({"step": 1}, path)

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.warns(UserWarning, match=r"last\.ckpt cannot be written \(No space left on device\)"):
            files.save_checkpoint({"step": 2}, path)
        assert files.failure is not None
        with pytest.raises(OSError, match="No space"):
            write_whole({"step": 2}, path)
    assert torch.load(path) == {"step": 1}
    assert [file.name for file in path.parent.iterdir()] == ["last.ckpt"]
    files.save_checkpoint({"step": 3}, path)
    assert files.failure is None
    assert torch.load(path) == {"step": 3}
