"""The downloader against a server on loopback that also breaks, lies and serves evil archives."""

import errno
import hashlib
import io
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from loopback import Site, answer, hang_up, reset, serve, status
from tiny import TINY_MODEL

import train
from datamodules import modules
from datamodules.download import fetch as download
from datamodules.download import unpack
from datamodules.download.fetch import provide
from datamodules.download.unpack import extract
from datamodules.modules import VisDroneDataModule
from datamodules.problems import DataError
from datamodules.progress import Progress, byte_progress

ROOT = Path(__file__).parents[3]
LAYOUT = "images/*.jpg"
NOISE = np.random.default_rng(0).bytes(300_000)
FILES = {"images/a.jpg": NOISE, "annotations/a.txt": b"1,2,3,4,1,4,0,0\n"}


def zipped(files: dict[str, bytes], top: str = "set/") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(top + name, content)
    return buffer.getvalue()


ARCHIVE = zipped(FILES)
HALF = len(ARCHIVE) // 2


@pytest.fixture
def site(site):
    site.files["/set.zip"] = ARCHIVE
    return site


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "set"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def content(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


def fails(site: Site, folder: Path) -> str:
    """Provide what cannot be provided; returns the message."""
    with pytest.raises(DataError) as caught:
        provide(site.url, folder, LAYOUT)
    assert not folder.exists()
    assert not [path for path in folder.parent.iterdir() if path.is_dir()]
    return str(caught.value)


# Fetching


def test_fetch_check_unpack_and_never_again(site, folder, capsys):
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES
    # The archive is gone, and its digest there, as `sha256sum --check` reads it.
    assert names(folder.parent) == [".set.lock", "set", "set.zip.sha256"]
    digest = (folder.parent / "set.zip.sha256").read_text()
    assert digest == f"{hashlib.sha256(ARCHIVE).hexdigest()}  set.zip\n"
    assert "300k/300k" in capsys.readouterr().err
    provide(site.url, folder, LAYOUT)
    assert len(site.requests) == 1


def test_a_broken_connection_is_taken_up_again(site, folder, capsys):
    site.answers = [answer(breaks_after=HALF), answer(breaks_after=1000)]
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES
    assert site.ranges == [None, f"bytes={HALF}-", f"bytes={HALF + 1000}-"]
    assert site.sent == len(ARCHIVE)
    assert f"broke after {HALF} of {len(ARCHIVE)} bytes; next try" in capsys.readouterr().err


def test_progress_earns_new_tries(site, folder):
    site.answers = [answer(breaks_after=1000)] * 10  # more than there are waits, but each has brought some
    provide(site.url, folder, LAYOUT)
    assert site.sent == len(ARCHIVE)


def test_a_server_without_ranges_starts_again(site, folder):
    site.answers = [answer(breaks_after=HALF), answer(knows_ranges=False)]
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES
    assert site.sent == HALF + len(ARCHIVE)


def test_starting_again_is_no_progress(site, folder):
    site.answers = [answer(breaks_after=HALF, knows_ranges=False)] * 100
    assert f"broke after {HALF} of {len(ARCHIVE)} bytes" in fails(site, folder)
    assert len(site.requests) == 1 + 3  # the first makes progress; then one after each wait


@pytest.mark.parametrize("heeds_if_range", [True, False])
def test_a_file_that_changes_between_two_tries_is_not_glued(site, folder, heeds_if_range):
    new = FILES | {"images/a.jpg": NOISE[::-1]}

    def change(request):
        site.files["/set.zip"] = zipped(new)
        serve(request, heeds_if_range=heeds_if_range)

    site.answers = [answer(breaks_after=HALF), change]
    provide(site.url, folder, LAYOUT)
    assert content(folder) == new


def test_another_part_than_was_asked_for_is_not_glued(site, folder):
    site.answers = [answer(breaks_after=HALF), answer(misplaces=True)]
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES
    assert site.ranges == [None, f"bytes={HALF}-", None]


@pytest.mark.parametrize(
    ("mark", "weak", "resumes"), [("Last-Modified", "", True), ("ETag", "W/", False), (None, "", False)]
)
def test_only_a_strong_mark_of_the_version_lets_a_part_be_continued(site, folder, mark, weak, resumes):
    good = answer(mark=mark, weak=weak)
    site.answers = [answer(breaks_after=HALF, mark=mark, weak=weak), good]
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES
    assert site.ranges == [None, f"bytes={HALF}-" if resumes else None]


def test_redirects_keep_the_range(site, folder):
    site.files["/store/1"] = ARCHIVE
    moved = status(302, "/store/1")
    site.answers = [moved, answer(breaks_after=HALF), moved]
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES
    assert [r.path for r in site.requests] == ["/set.zip", "/store/1"] * 2
    assert site.sent == len(ARCHIVE)


def part_of(folder: Path, part: bytes, tag: str) -> Path:
    folder.parent.mkdir()
    path = folder.parent / "set.zip.part"
    path.write_bytes(part)
    path.with_suffix(".part.etag").write_text(tag)
    return path


def test_killed_after_the_last_byte(site, folder):
    part_of(folder, ARCHIVE, f'"{hashlib.md5(ARCHIVE).hexdigest()}"')
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES
    assert site.sent == 0
    assert names(folder.parent) == [".set.lock", "set", "set.zip.sha256"]


def test_a_part_longer_than_the_file_is_dropped(site, folder):
    part_of(folder, ARCHIVE + b"more", f'"{hashlib.md5(ARCHIVE).hexdigest()}"')
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES


@pytest.mark.parametrize("broken", [status(500), status(503), status(429), reset, hang_up])
def test_what_may_pass_is_tried_again(site, folder, broken):
    site.answers = [broken, broken]
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES


def test_what_does_not_pass_ends(site, folder):
    site.answers = [status(500)] * 100
    assert "500 Internal Server Error" in fails(site, folder)
    assert len(site.requests) == 1 + 3


@pytest.mark.parametrize("code", [403, 404])
def test_a_refusal_is_final_and_says_what_to_do(site, folder, code):
    site.answers = [status(code)] * 100
    message = fails(site, folder)
    assert len(site.requests) == 1
    assert site.url in message
    assert str(code) in message
    assert f"put it at {folder.parent / 'set.zip'}" in message
    assert f"unpack it as {folder}, which then holds {LAYOUT}" in message


def test_offline(site, folder, monkeypatch):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        site.url = f"http://127.0.0.1:{unused.getsockname()[1]}/set.zip"
    monkeypatch.setattr(time, "sleep", lambda _: pytest.fail("nothing to wait for"))
    message = fails(site, folder)
    assert "no connection" in message
    assert f"{site.url} could not be fetched" in message
    assert f"put it at {folder.parent / 'set.zip'}" in message


def test_a_connection_lost_in_the_middle_is_waited_for(site, folder, monkeypatch):
    # The server cannot be reached for a while, after the first bytes: that is tried again.
    connect, lost = download.urlopen, iter([False, True, True])

    def urlopen(*args, **options):
        if next(lost, False):
            raise download.URLError("network is down")
        return connect(*args, **options)

    monkeypatch.setattr(download, "urlopen", urlopen)
    site.answers = [answer(breaks_after=HALF)]
    provide(site.url, folder, LAYOUT)
    assert site.sent == len(ARCHIVE)


def test_silence_is_a_broken_connection(site, folder, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    site.answers = [lambda request: site.go_on.wait(60), answer(breaks_after=HALF, pauses=True)]
    provide(site.url, folder, LAYOUT)
    assert site.ranges == [None, None, f"bytes={HALF}-"]


@pytest.mark.parametrize("url", ["http://[::1/set.zip", "http://127.0.0.1:port/set.zip", "set.zip"])
def test_addresses_that_are_none(site, folder, url):
    site.url = url
    assert "could not be fetched" in fails(site, folder)


# Lies about the size


def test_less_than_was_announced(site, folder):
    site.answers = [answer(length=len(ARCHIVE) + 5, mark=None)] * 100
    assert f"broke after {len(ARCHIVE)} of {len(ARCHIVE) + 5} bytes" in fails(site, folder)


def test_more_than_was_announced(site, folder):
    site.answers = [answer(length=HALF)]
    assert "not a complete zip archive" in fails(site, folder)
    # The wrong part is not continued.
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES


def test_no_size(site, folder):
    site.answers = [answer(length="none")]
    assert "does not say how long" in fails(site, folder)


def test_a_page_instead_of_an_archive(site, folder):
    site.files["/set.zip"] = b"<!DOCTYPE html><html>Please log in</html>"
    assert "not a complete zip archive; it begins with b'<!DOCTYPE html>" in fails(site, folder)
    assert names(folder.parent) == [".set.lock", "set.zip.part.etag"]


# Digest, archives put there by hand


def test_another_archive_than_before_is_refused(site, folder):
    provide(site.url, folder, LAYOUT)
    for path in (folder / "images", folder / "annotations", folder):
        for file in path.iterdir():
            file.unlink() if file.is_file() else file.rmdir()
    folder.rmdir()
    site.files["/set.zip"] = new = zipped(FILES | {"images/a.jpg": NOISE[::-1]})
    message = fails(site, folder)
    assert hashlib.sha256(new).hexdigest() in message
    assert hashlib.sha256(ARCHIVE).hexdigest() in message
    assert f"delete {folder.parent / 'set.zip.sha256'}" in message
    (folder.parent / "set.zip.sha256").unlink()  # as the message says
    provide(site.url, folder, LAYOUT)
    assert content(folder)["images/a.jpg"] == NOISE[::-1]


def test_an_archive_put_there_by_hand_is_used_and_kept(site, folder):
    folder.mkdir(parents=True)  # an empty folder is no data
    archive = folder.parent / "set.zip"
    archive.write_bytes(ARCHIVE)
    provide(site.url, folder, LAYOUT)
    assert content(folder) == FILES
    assert archive.exists()
    assert site.requests == []


def test_a_truncated_archive_put_there_by_hand(site, folder):
    folder.parent.mkdir()
    (folder.parent / "set.zip").write_bytes(ARCHIVE[:-100])
    message = fails(site, folder)
    assert f"{folder.parent / 'set.zip'} is damaged" in message
    assert "delete it and run again" in message
    assert not (folder.parent / "set.zip.sha256").exists()


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


# Archives that are evil, or only unusual


@pytest.fixture
def archive(tmp_path):
    return tmp_path / "set.zip"


def refused(archive: Path, tmp_path: Path) -> str:
    before = names(tmp_path)
    with pytest.raises(DataError) as caught:
        extract(archive, tmp_path / "set")
    assert names(tmp_path) == before
    assert str(archive) in str(caught.value)
    assert "delete it" in str(caught.value)
    return str(caught.value)


PATHS = ["../x", "a/../../x", "..", "/x", "C:/x", "C:x", "..\\x", "a//x", "x.", "x ", "./x"]
CONTROLS = ["a\nb", "a\x1b[2J"]
DEVICES = ["nul", "a/COM1.jpg"]


@pytest.mark.parametrize("name", PATHS + CONTROLS + DEVICES)
def test_unsafe_paths(archive, tmp_path, name):
    archive.write_bytes(zipped({"images/a.jpg": b"", name: b"evil"}, top=""))
    assert "is unsafe" in refused(archive, tmp_path)


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices(archive, tmp_path, kind):
    info = zipfile.ZipInfo("images/a.jpg")
    info.external_attr = (kind | 0o777) << 16
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(info, "/etc/passwd")
    assert "link or a device" in refused(archive, tmp_path)


def test_rights_are_not_taken_over(archive, tmp_path):
    info = zipfile.ZipInfo("images/a.jpg")
    info.external_attr = (stat.S_IFREG | 0o7777) << 16
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr(info, "x")
        file.writestr("b", "x")
    extract(archive, tmp_path / "set")
    assert not (tmp_path / "set" / "images" / "a.jpg").stat().st_mode & 0o7111


def test_bomb(archive, tmp_path):
    archive.write_bytes(zipped({"images/a.jpg": bytes(10**7)}))
    assert "would become 10000000 bytes" in refused(archive, tmp_path)


def test_too_many_files(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_FILES", 1)
    archive.write_bytes(ARCHIVE)
    assert "in 2 files" in refused(archive, tmp_path)


def with_header(content: bytes, local: int, central: int, form: str, value: int) -> bytes:
    """Change a field of the only file's two headers, at its offset in each."""
    data = bytearray(content)
    for signature, offset in ((b"PK\3\4", local), (b"PK\1\2", central)):
        struct.pack_into(form, data, data.index(signature) + offset, value)
    return bytes(data)


@pytest.mark.parametrize("claimed", [1000, 2 * 10**6])
def test_a_header_that_lies_about_the_size(archive, tmp_path, monkeypatch, claimed):
    # 1 MB of zeros that says it has 1 kB, or 2 MB: never more than it says is written, and it is found out.
    monkeypatch.setattr(unpack, "MAX_RATIO", 10**6)
    archive.write_bytes(with_header(zipped({"a": bytes(10**6)}), 22, 24, "<I", claimed))
    written = []
    monkeypatch.setattr(Progress, "update", lambda self, count: written.append(count))
    assert "is damaged" in refused(archive, tmp_path)
    assert sum(written) <= min(claimed, 10**6)


def test_encrypted(archive, tmp_path):
    archive.write_bytes(with_header(zipped({"a": b"x"}), 6, 8, "<H", 1))
    assert "is encrypted" in refused(archive, tmp_path)


def test_unusual_packing(archive, tmp_path):
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("a", "x")
    assert "is not deflated" in refused(archive, tmp_path)


def test_paths_that_only_differ_in_case(archive, tmp_path):
    archive.write_bytes(zipped({"a.jpg": b"1", "A.jpg": b"2"}))
    assert "same path" in refused(archive, tmp_path)


def test_a_file_that_is_a_folder_too(archive, tmp_path):
    archive.write_bytes(zipped({"a": b"1", "a/b": b"2"}))
    with pytest.raises(OSError, match="a"):
        extract(archive, tmp_path / "set")
    assert names(tmp_path) == ["set.zip"]


def test_nothing_in_it(archive, tmp_path):
    archive.write_bytes(zipped({}))
    assert "no files" in refused(archive, tmp_path)


def test_damaged_content(archive, tmp_path):
    # One byte of a stored file: only its checksum shows it.
    archive.write_bytes(ARCHIVE.replace(NOISE[1000:1010], bytes(10)))
    assert "is damaged (Bad CRC-32" in refused(archive, tmp_path)


@pytest.mark.parametrize("top", ["", "set/", "VisDrone2019 (1)/", "images/"])
def test_a_top_folder_of_any_name_or_none(archive, tmp_path, top):
    archive.write_bytes(zipped(FILES, top))
    extract(archive, tmp_path / "set")
    assert content(tmp_path / "set") == FILES


def test_a_single_file_is_no_top_folder(archive, tmp_path):
    archive.write_bytes(zipped({"a.jpg": NOISE}, top=""))
    extract(archive, tmp_path / "set")
    assert content(tmp_path / "set") == {"a.jpg": NOISE}


def test_what_macos_adds_is_left_out(archive, tmp_path):
    archive.write_bytes(zipped({f"set/{name}": data for name, data in FILES.items()}, top=""))
    with zipfile.ZipFile(archive, "a") as file:
        file.mkdir("set/empty")
        file.writestr("__MACOSX/set/._a.jpg", "x")
    extract(archive, tmp_path / "set")
    assert content(tmp_path / "set") == FILES


def test_fuzzed_archives(archive, tmp_path):
    # Each either unpacks, or gives one message; nothing lands outside the folder.
    rng = np.random.default_rng(0)
    original = np.frombuffer(zipped({"images/a.jpg": NOISE[:200], "b.txt": b"1,2" * 50}), np.uint8)
    failed = 0
    (tmp_path / "out").mkdir()
    for _ in range(300):
        data = original.copy()
        data[rng.integers(0, len(data), rng.integers(1, 6))] = rng.integers(0, 256)
        archive.write_bytes(data.tobytes())
        try:
            extract(archive, tmp_path / "out" / "set")
        except DataError:
            failed += 1
        else:
            unpack.shutil.rmtree(tmp_path / "out" / "set")
        assert names(tmp_path) == ["out", "set.zip"]
        assert names(tmp_path / "out") == []
    assert 100 < failed < 300


# Progress


def test_progress(capsys):
    with byte_progress("set.zip", 20_000_000, 100_000_000) as progress:
        for _ in range(1000):
            progress.update(80_000)
    first, *_, last = capsys.readouterr().err.split("\r")[1:]
    assert "set.zip:  20%" in first
    assert "20.0M/100M" in first
    assert "100M/100M" in last


# VisDrone


@pytest.mark.parametrize(
    ("stage", "fetched"),
    [("fit", ["train", "val"]), ("validate", ["val"]), ("test", ["test-dev"]), (None, ["train", "val"])],
)
def test_only_the_splits_that_a_stage_needs(monkeypatch, tmp_path, stage, fetched):
    calls = []
    monkeypatch.setattr(modules, "provide", lambda url, folder, layout: calls.append((url, folder)))
    module = VisDroneDataModule(tmp_path, download=True, download_url="http://mirror/")
    module.trainer = stage and SimpleNamespace(state=SimpleNamespace(fn=stage))
    module.prepare_data()
    wanted = [f"VisDrone2019-DET-{split}" for split in fetched]
    assert calls == [(f"http://mirror/{name}.zip", tmp_path / name) for name in wanted]


def test_nothing_is_fetched_unasked(monkeypatch, tmp_path):
    monkeypatch.setattr(modules, "provide", lambda *_: pytest.fail("a download"))
    VisDroneDataModule(tmp_path).prepare_data()
    with pytest.raises(ValueError, match=r"data\.download_url must begin with https"):
        VisDroneDataModule(tmp_path, download_url="mirror/visdrone")


def visdrone_zip(split: str, images: int) -> bytes:
    """An archive in VisDrone's layout; test-dev's without a top folder."""
    files = {}
    for i in range(images):
        noise = np.random.default_rng(i).integers(0, 256, (96, 96, 3), np.uint8)
        files[f"images/{i:04d}.jpg"] = cv2.imencode(".jpg", noise)[1].tobytes()
        files[f"annotations/{i:04d}.txt"] = b"9,9,20,20,1,4,0,0\n50,50,30,30,0,0,0,0,\n"
    return zipped(files, top="" if split == "test-dev" else f"VisDrone2019-DET-{split}/")


@pytest.mark.slow
def test_train_on_a_machine_without_data(site, tmp_path):
    splits = ("train", "val", "test-dev")
    site.files = {f"/VisDrone2019-DET-{split}.zip": visdrone_zip(split, 2) for split in splits}
    config = ROOT / "configs" / "visdrone_hybrid.yaml"
    options = [
        f"--config={config}",
        f"--data.root={tmp_path / 'visdrone'}",
        f"--data.download_url={site.base}",
        "--data.image_size=[96,96]",
        "--data.batch_size=2",
        "--data.num_workers=0",
        *TINY_MODEL,
        *("--trainer.accelerator=cpu", "--trainer.devices=1", "--trainer.precision=32-true"),
        "--trainer.fast_dev_run=true",
    ]
    train.main(options)
    asked = ["/VisDrone2019-DET-train.zip", "/VisDrone2019-DET-val.zip"]
    assert [request.path for request in site.requests] == asked
    train.main(options)
    assert [request.path for request in site.requests] == asked
    module = VisDroneDataModule(tmp_path / "visdrone", download=True, download_url=site.base)
    module.trainer = SimpleNamespace(state=SimpleNamespace(fn="test"))
    module.prepare_data()
    module.setup("test")
    assert len(module.records["test"].images) == 2
    assert [request.path for request in site.requests][2:] == ["/VisDrone2019-DET-test-dev.zip"]
