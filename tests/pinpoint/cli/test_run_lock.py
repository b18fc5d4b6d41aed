"""Two processes that would train in one run folder."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import TINY_MODEL, Run

import train
from pinpoint.cli import run_lock
from pinpoint.cli.run_lock import sole_user

# It forks another one, as a loader forks its workers, which outlives it.
HOLDER = """
import os, sys, time
from pathlib import Path
from pinpoint.cli.run_lock import sole_user
with sole_user(Path(sys.argv[1])):
    worker = os.fork()
    if worker:
        print(worker, flush=True)
    time.sleep(60)
"""


class Holder:
    """A process that trains in a folder, as far as others can see."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-c", HOLDER, str(folder)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[3]
        )
        assert self.process.stdout is not None
        self.worker = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def holder(run: Run) -> Iterator[Holder]:
    holder = Holder(run.folder)
    yield holder
    holder.kill()
    os.kill(holder.worker, signal.SIGKILL)
    assert holder.process.stdout is not None
    holder.process.stdout.close()


def test_the_second_is_refused_and_changes_nothing_until_the_first_is_gone(run: Run, holder: Holder) -> None:
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    options = [*run.scenes, *TINY_MODEL, "--trainer.accelerator=cpu", "--trainer.max_epochs=3"]
    with pytest.raises(ValueError, match="is training in") as error:
        train.main([*options, f"--ckpt_path={run.last}"])
    said = str(error.value)
    assert said.startswith(f"process {holder.process.pid} on ")
    assert f"{run.folder}: wait for its end" in said
    assert said.count("\n") == 0
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before

    holder.kill()
    os.kill(holder.worker, 0)  # the worker is still there
    with sole_user(run.folder):
        assert (run.folder / run_lock.NAME).read_text().startswith(f"process {os.getpid()} on ")


def test_one_process_may_train_there_again_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        with sole_user(tmp_path / "new" / "version_0"):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_costs_a_warning(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without(file: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(run_lock, "_lock", without)
    with pytest.warns(UserWarning, match="cannot be locked"), sole_user(tmp_path):
        pass


def test_so_does_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="cannot be locked"), sole_user(tmp_path / "file" / "version_0"):
        pass


def test_no_folder_needs_no_lock() -> None:
    with sole_user(None):
        pass
