"""Downloads that are interrupted, by a full disk, a signal or another process."""

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from archives import ARCHIVE, FILES, HALF, LAYOUT, NOISE, ROOT, content, fails, names
from loopback import Site, answer, serve

from datamodules.download import unpack
from datamodules.download.fetch import provide
from datamodules.problems import DataError
from datamodules.progress import Progress

# Interruptions, full disks


def stop_after(monkeypatch, count: int, error: BaseException) -> None:
    """Raise in the place of the write that would exceed a number of bytes."""
    update = Progress.update

    def failing(self, size):
        update(self, size)
        if self.n > count:
            raise error

    monkeypatch.setattr(Progress, "update", failing)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(errno.ENOSPC, "No space left on device")])
def test_what_came_before_an_interruption_is_not_fetched_again(site, folder, monkeypatch, capsys, error):
    with monkeypatch.context() as patch:
        stop_after(patch, HALF, error)
        with pytest.raises((DataError, KeyboardInterrupt)) as caught:
            provide(site.url, folder, LAYOUT)
    if isinstance(error, OSError):
        assert "No space left on device" in str(caught.value)
        assert "the next run goes on from there" in str(caught.value)
    else:
        assert "the next run goes on from there" in capsys.readouterr().err
    have = (folder.parent / "set.zip.part").stat().st_size
    assert have > HALF
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES
    assert site.ranges == [None, f"bytes={have}-"]


def test_too_small_a_disk_is_found_out_before(site, folder, monkeypatch):
    # The archive and what it holds must fit: 0.6 MB.
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: SimpleNamespace(free=2 * len(ARCHIVE) - 1))
    message = fails(site, folder)
    assert "GB left" in message
    assert "make room" in message
    assert not (folder.parent / "set.zip.part").exists()


def test_too_small_a_disk_for_the_files(site, folder, monkeypatch):
    folder.parent.mkdir()
    (folder.parent / "set.zip").write_bytes(ARCHIVE)
    monkeypatch.setattr(unpack.shutil, "disk_usage", lambda _: SimpleNamespace(free=len(NOISE)))
    assert "GB left" in fails(site, folder)


def test_a_root_that_is_a_file(site, folder):
    folder.parent.write_text("")
    with pytest.raises(DataError, match="choose another folder"):
        provide(site.url, folder, LAYOUT)


def test_an_interrupted_extraction_leaves_nothing_that_looks_finished(site, folder, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(unpack, "_write", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            provide(site.url, folder, LAYOUT)
    assert names(folder.parent) == [".set.lock", "set.zip"]
    left = folder.parent / ".set.unpacking" / "images"  # of a process that was killed
    left.mkdir(parents=True)
    (left / "junk.jpg").write_text("")
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES
    assert len(site.requests) == 1


# Processes


def start(site: Site, folder: Path) -> subprocess.Popen:
    code = (
        "import sys; from pathlib import Path; from datamodules.download.fetch import provide;"
        "provide(sys.argv[1], Path(sys.argv[2]), 'files')"
    )
    return subprocess.Popen([sys.executable, "-c", code, site.url, str(folder)], cwd=ROOT)


def wait_until(condition) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.slow
def test_two_processes_fetch_once(site, folder, capsys):
    def wait_for_the_other(request):
        site.go_on.wait(60)
        serve(request)

    site.answers = [wait_for_the_other]
    other = start(site, folder)
    wait_until(lambda: site.requests)
    own = threading.Thread(target=provide, args=(site.url, folder, LAYOUT), daemon=True)
    own.start()
    wait_until(lambda: f"another process fetches {folder}: waiting for it" in capsys.readouterr().err)
    site.go_on.set()
    own.join(60)
    assert other.wait(60) == 0
    assert len(site.requests) == 1
    assert content(folder) == FILES


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs a signal that cannot be caught")
def test_a_killed_process_leaves_its_part_and_no_lock(site, folder):
    site.answers = [answer(breaks_after=HALF, pauses=True)]
    part = folder.parent / "set.zip.part"
    process = start(site, folder)
    wait_until(lambda: part.exists() and part.stat().st_size > HALF // 2)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(60)
    have = part.stat().st_size
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES
    assert site.ranges == [None, f"bytes={have}-"]
    assert site.sent == HALF + len(ARCHIVE) - have
