"""The downloader against a server on loopback that also breaks, lies and serves evil archives."""

import hashlib
import socket
import time
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from archives import ARCHIVE, FILES, HALF, LAYOUT, NOISE, ROOT, content, fails, names, zipped
from loopback import answer, hang_up, reset, serve, status
from tiny import TINY_MODEL

import train
from datamodules import modules
from datamodules.download import fetch as download
from datamodules.download.fetch import provide
from datamodules.modules import VisDroneDataModule
from datamodules.progress import byte_progress

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


@pytest.mark.parametrize("length", ["none", "-1"])
def test_no_size(site, folder, length):
    site.answers = [answer(length=length)]
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
