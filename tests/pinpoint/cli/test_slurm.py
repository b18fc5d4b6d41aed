"""Jobs that are queued again, with a stand-in for SLURM's own command."""

import os
from pathlib import Path

import pytest
from tiny import TINY_MODEL, Run

from pinpoint.cli import slurm
from pinpoint.cli.arguments import tidy
from pinpoint.cli.detection import DetectionCLI


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a job, in which `scontrol` writes down how it is called."""
    command = tmp_path / "scontrol"
    command.write_text(f"#!/bin/sh\necho $@ >> {tmp_path}/called\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    for name, value in (("SLURM_NTASKS", "1"), ("SLURM_JOB_ID", "42"), ("SLURM_JOB_NAME", "train")):
        monkeypatch.setenv(name, value)
    return tmp_path


def test_a_job_that_is_queued_again_goes_on_from_its_own_checkpoint(
    place: Path, run: Run, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    options = [*run.scenes, *TINY_MODEL, "--trainer.accelerator=cpu", "--trainer.devices=1"]
    given = tidy(options)
    assert slurm.requeued(given) is None
    slurm.requeue("42", str(run.last), given)
    assert (place / "called").read_text() == "requeue 42\n"
    assert "SLURM's job 42 is queued again" in capsys.readouterr().err
    cli = DetectionCLI(options)
    assert cli.config.ckpt_path == str(run.last)
    assert Path(cli.trainer.log_dir) == run.folder
    # What began as another run's continuation goes on where it was last, in the folder that it has now.
    cli = DetectionCLI([*options, "--ckpt_path=elsewhere/last.ckpt", "--new_version=true"])
    assert cli.config.ckpt_path == str(run.last)
    assert Path(cli.trainer.log_dir) == run.folder
    # Another training of the same job, and another job in the same folder.
    assert slurm.requeued([*given, "--seed_everything=7"]) is None
    with monkeypatch.context() as other:
        other.setenv("SLURM_JOB_ID", "43")
        assert slurm.requeued(given) is None
    slurm.finished(given)
    assert slurm.requeued(given) is None


def test_jobs_of_arrays_and_interactive_ones(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert slurm.job() == "42"
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert slurm.job() == "7_3"
    monkeypatch.setenv("SLURM_JOB_NAME", "bash")
    assert slurm.job() is None


def test_a_failure_to_queue_is_said(place: Path, run: Run, capsys) -> None:
    (place / "scontrol").write_text("#!/bin/sh\necho no such job >&2\nexit 1\n")
    slurm.requeue("42", str(run.last), [])
    assert capsys.readouterr().err == "SLURM's job 42 could not be queued again (no such job)\n"
