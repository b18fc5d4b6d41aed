"""Jobs of SLURM whose time is over: they are queued again, and go on where they stopped.

`sbatch --requeue --signal=SIGUSR1@120` sends SIGUSR1 two minutes before the end. Lightning would save at
once, in the middle of a step; we do it when the step is whole, and note the checkpoint under the job's number
and the command: neither jobs in one folder nor the trainings of one job take each other's.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path


def job() -> str | None:
    """Number of the SLURM job that this process is part of; None outside, and in interactive ones."""
    if "SLURM_NTASKS" not in os.environ or os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive"):
        return None
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        return f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def requeue(number: str, checkpoint: str, given: Sequence[str]) -> None:
    """Queue a job again, to go on from a checkpoint; a line says whether SLURM has done so.

    Args:
        number: of the job.
        checkpoint: its file.
        given: the training's command line, see `pinpoint.cli.arguments.tidy`.
    """
    _note(number, given).write_text(str(Path(checkpoint).absolute()), "utf-8")
    try:
        done = subprocess.run(["scontrol", "requeue", number], capture_output=True, text=True, check=False)
        failure = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        failure = str(error)
    said = f"could not be queued again ({failure})" if failure else "is queued again, and goes on from there"
    print(f"SLURM's job {number} {said}", file=sys.stderr)


def requeued(given: Sequence[str]) -> str | None:
    """The checkpoint that a training goes on from whose job was queued again; None for another training."""
    number = job()
    if number is None or not _note(number, given).is_file():
        return None
    checkpoint = _note(number, given).read_text("utf-8")
    return checkpoint if Path(checkpoint).is_file() else None


def finished(given: Sequence[str]) -> None:
    """Forget where a training stopped: the same command of the same job begins another one."""
    if (number := job()) is not None:
        _note(number, given).unlink(missing_ok=True)


def _note(number: str, given: Sequence[str]) -> Path:
    own = [word for word in given if not word.startswith(("--ckpt_path", "--new_version"))]
    command = hashlib.sha256(shlex.join(own).encode("utf-8", "surrogateescape")).hexdigest()[:8]
    return Path(f".slurm-{number}-{command}-goes-on-from")
