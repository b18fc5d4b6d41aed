import gc
import multiprocessing
import os
import pickle
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from coco_folder import assert_same, batches

from datamodules.images import cache
from datamodules.images.cache import open_cache
from datamodules.images.decoding import Images, Reading, read_image
from datamodules.problems import DataError
from datamodules.transforms.augment import Augment

COUNT, SIZE = 8, (48, 64)

linux = pytest.mark.skipif(sys.platform != "linux", reason="processes are forked, ram is Linux's")


@pytest.fixture(autouse=True)
def shared_memory(tmp_path, monkeypatch):
    """A folder in place of /dev/shm, so that no other run is touched."""
    monkeypatch.setattr(cache, "SHARED_MEMORY", tmp_path)
    return tmp_path / f"pinpoint-{os.getuid()}" if hasattr(os, "getuid") else tmp_path


@pytest.fixture
def images(coco_folder):
    """Images of noise at half their size, six PNG and two JPEG."""
    rng = np.random.default_rng(1)
    for number in (7, 8):
        noise = rng.integers(0, 256, (*SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(coco_folder.images / f"{number}.jpg"), noise)
        entry = {"id": number, "file_name": f"{number}.jpg", "height": SIZE[0], "width": SIZE[1]}
        coco_folder.data["images"].append(entry)
    coco_folder.save()
    module = coco_folder.module()
    module.setup("fit")
    return Images(module.records["train"].images, [2] * COUNT)


@pytest.fixture
def disk(tmp_path):
    return Reading(cache="disk", folder=tmp_path / "cache")


def files(folder):
    return sorted(path.name for path in folder.glob("*.*") if not path.name.endswith(".lock"))


def assert_holds(cached, images, which=range(COUNT)):
    for index in range(COUNT):
        found = cached.get(index)
        if index in which:
            np.testing.assert_array_equal(found, images.decode(index))
        else:
            assert found is None


# ------------------------------------------------------------------------------------------- same pixels


@linux
def test_a_cache_changes_no_pixel_with_any_number_of_workers(images, coco_folder, tmp_path):
    augment = Augment(scale=(0.3, 0.7), mosaic=0.5, mixup=0.3, copy_paste=0.3)
    seen = []
    for kind in (None, "ram", "disk"):
        for num_workers in (0, 1, 2):
            reading = Reading(cache=kind, folder=tmp_path / "cache")
            module = coco_folder.module(num_workers=num_workers, augment=augment, reading=reading)
            module.setup("fit")
            loader = module.train_dataloader()
            assert loader.dataset.images.reductions == [2] * COUNT  # 0.7 * 32 / 48 is below a half
            assert (loader.dataset.images.stored is None) == (kind is None)
            first = batches(loader)
            loader.sampler.set_epoch(1)
            seen.append(first + batches(loader))
    for other in seen[1:]:
        assert_same(seen[0], other)


@pytest.mark.parametrize("kind", [pytest.param("ram", marks=linux), "disk"])
def test_it_holds_what_was_decoded(images, disk, kind):
    cached = open_cache(images, Reading(cache=kind, folder=disk.folder), "raise")
    assert_holds(cached, images)
    assert not cached.get(0).flags.writeable


def test_it_is_read_in_place_of_the_files(images, disk, monkeypatch):
    expected = [images.decode(index) for index in range(COUNT)]
    images.stored = open_cache(images, disk, "raise")
    monkeypatch.setattr("datamodules.images.decoding.read_image", None)
    again = open_cache(images, disk, "raise")  # nothing is decoded for it either
    for index in range(COUNT):
        np.testing.assert_array_equal(images[index], expected[index])
        np.testing.assert_array_equal(again.get(index), expected[index])


@pytest.mark.parametrize("num_workers", [0, 1])
def test_training_reads_from_it(images, coco_folder, disk, num_workers):
    augment = Augment(scale=(0.3, 0.7))
    module = coco_folder.module(reading=disk, augment=augment, num_workers=num_workers)
    module.setup("fit")
    loader = module.train_dataloader()
    expected = batches(loader)
    for record in images.records:
        Path(record.path).unlink()
    assert_same(batches(loader), expected)


def test_workers_get_its_path_and_no_copy(images, disk):
    cached = open_cache(images, disk, "raise")
    sent = pickle.dumps(cached)
    assert len(sent) < cached.data.nbytes / 10
    assert_holds(pickle.loads(sent), images)


# --------------------------------------------------------------------------------------------------- key


def rewrite(path, image, time=None):
    before = path.stat()
    cv2.imwrite(str(path), image)
    os.utime(path, ns=(before.st_atime_ns, time or before.st_mtime_ns))


def test_a_changed_image_makes_it_stale(images, disk):
    open_cache(images, disk, "raise")
    before = files(disk.folder)
    path = Path(images.records[3].path)
    rewrite(path, np.full((*SIZE, 3), 9, np.uint8))  # another size in bytes, the same time
    assert_holds(open_cache(images, disk, "raise"), images)
    between = files(disk.folder)
    rewrite(path, np.full((*SIZE, 3), 9, np.uint8), time=1)  # the same bytes, another time
    open_cache(images, disk, "raise")
    after = files(disk.folder)
    assert len(before) == len(between) == len(after) == 1  # the stale ones are gone
    assert len({*before, *between, *after}) == 3


@pytest.mark.parametrize("change", ["reductions", "reduced_decode", "names", "version", "cv2", "simplejpeg"])
def test_what_is_made_otherwise_is_another_file(images, disk, change, monkeypatch, tmp_path):
    open_cache(images, disk, "raise")
    if change == "reductions":
        images.reductions = [1, *images.reductions[1:]]
    elif change == "reduced_decode":
        images.reduced_decode = False
    elif change == "names":
        images.records = images.records[::-1]
    elif change == "version":
        monkeypatch.setattr(cache, "VERSION", 0)
    else:
        monkeypatch.setattr(f"{change}.__version__", "0")
    assert_holds(open_cache(images, disk, "raise"), images)
    assert len(files(disk.folder)) == 2


# -------------------------------------------------------------------------------------------------- bound


def test_what_does_not_fit_is_decoded_each_time(images, disk):
    # 24 x 32 x 3 bytes an image: three of them and a bit.
    reading = Reading(cache="disk", folder=disk.folder, gigabytes=7000 / 1e9)
    with pytest.warns(UserWarning, match=r"38% of 8 images fit the cache of 7e-06 GB"):
        images.stored = open_cache(images, reading, "raise")
    assert_holds(images.stored, images, which=range(3))
    assert (disk.folder / files(disk.folder)[0]).stat().st_size < 7000
    np.testing.assert_array_equal(images[5], images.decode(5))


def test_no_room_for_a_single_image(images, disk):
    reading = Reading(cache="disk", folder=disk.folder, gigabytes=1e-9)
    with pytest.warns(UserWarning, match="0% of 8 images fit"):
        assert open_cache(images, reading, "raise") is None


def test_a_full_disk_is_told_before_anything_is_decoded(images, disk, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("Usage", (), {"free": 10}))
    with pytest.raises(DataError, match=r"cannot hold the cache .* smaller data\.reading\.gigabytes"):
        open_cache(images, disk, "raise")
    assert files(disk.folder) == []


def test_ram_without_shared_memory(images, monkeypatch, tmp_path):
    monkeypatch.setattr(cache, "SHARED_MEMORY", tmp_path / "none")
    with pytest.raises(DataError, match="choose disk"):
        open_cache(images, Reading(cache="ram"), "raise")


# --------------------------------------------------------------------------------------------- bad images


def test_a_damaged_image_is_told_at_once(images, disk):
    Path(images.records[2].path).write_bytes(b"not an image")
    with pytest.raises(DataError, match="is not a readable image"):
        open_cache(images, disk, "raise")
    assert files(disk.folder) == []


def test_a_damaged_image_is_left_out(images, disk):
    Path(images.records[2].path).write_bytes(b"not an image")
    Path(images.records[4].path).unlink()
    cached = open_cache(images, disk, "skip")
    assert_holds(cached, images, which={0, 1, 3, 5, 6, 7})


# ------------------------------------------------------------------------------------ several processes


def fork(target, *arguments):
    process = multiprocessing.get_context("fork").Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def count_decoding(monkeypatch, log, then=lambda: None):
    def decode(*arguments):
        with log.open("a") as file:
            file.write("x")
        then()
        return read_image(*arguments)

    monkeypatch.setattr("datamodules.images.decoding.read_image", decode)


@linux
@pytest.mark.filterwarnings("ignore:.*fork")
def test_several_processes_make_it_once(images, disk, monkeypatch, tmp_path):
    count_decoding(monkeypatch, tmp_path / "log")
    processes = [fork(open_cache, images, disk, "raise") for _ in range(4)]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len((tmp_path / "log").read_text()) == COUNT
    monkeypatch.undo()
    assert_holds(open_cache(images, disk, "raise"), images)


@linux
@pytest.mark.filterwarnings("ignore:.*fork")
@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_a_kill_while_it_is_made(images, disk, kind, monkeypatch, tmp_path, shared_memory):
    reading = Reading(cache=kind, folder=disk.folder)
    folder = shared_memory if kind == "ram" else disk.folder
    with monkeypatch.context() as patched:
        largest = max(np.prod(images.shape(index)) for index in range(len(images)))
        patched.setattr(cache, "AHEAD", 2 * largest)  # two are in the file when it happens

        def die_late():
            if len((tmp_path / "log").read_text()) > 3:
                os.kill(os.getpid(), signal.SIGKILL)

        count_decoding(patched, tmp_path / "log", die_late)
        process = fork(open_cache, images, reading, "raise")
        process.join()
        assert process.exitcode == -signal.SIGKILL
    assert [name.partition(".")[2] for name in files(folder)] == ["partial"]
    cached = open_cache(images, reading, "raise")
    assert_holds(cached, images)
    assert [name.partition(".")[2] for name in files(folder)] == ["images"]


def hold(images, reading, ready, stop):
    cached = open_cache(images, reading, "raise")
    ready.set()
    stop.wait()
    assert_holds(cached, images)


@pytest.fixture
def holder(images):
    """Another process that uses the cache in memory, and the event that ends it."""
    context = multiprocessing.get_context("fork")
    ready, stop = context.Event(), context.Event()
    process = fork(hold, images, Reading(cache="ram"), ready, stop)
    assert ready.wait(20)
    yield process, stop
    process.kill()
    process.join()


@linux
@pytest.mark.filterwarnings("ignore:.*fork")
def test_memory_is_freed_by_the_last_that_uses_it(images, shared_memory, holder):
    process, stop = holder
    (name,) = files(shared_memory)
    cached = open_cache(images, Reading(cache="ram"), "raise")
    stop.set()
    process.join()
    assert process.exitcode == 0
    assert files(shared_memory) == [name]  # one for both; its maker is gone
    assert_holds(cached, images)
    del cached
    gc.collect()
    assert files(shared_memory) == []


@linux
@pytest.mark.filterwarnings("ignore:.*fork")
def test_memory_of_a_killed_process_is_freed_by_the_next(images, shared_memory, holder):
    process, _ = holder
    (name,) = files(shared_memory)
    other = Images(images.records, [4] * COUNT)
    open_cache(other, Reading(cache="ram"), "raise")
    assert files(shared_memory) == [name]  # in use
    process.kill()
    process.join()
    cached = open_cache(other, Reading(cache="ram"), "raise")
    assert name not in files(shared_memory)
    assert_holds(cached, other)


@linux
@pytest.mark.filterwarnings("ignore:.*fork")
def test_what_is_being_made_is_not_cleared_away(images, shared_memory, monkeypatch, tmp_path):
    reading, context = Reading(cache="ram"), multiprocessing.get_context("fork")
    started, go_on = context.Event(), context.Event()
    with monkeypatch.context() as patched:
        count_decoding(patched, tmp_path / "log", lambda: (started.set(), go_on.wait(20)))
        maker = fork(open_cache, images, reading, "raise")
        assert started.wait(20)
    other = Images(images.records, [4] * COUNT)
    cached = open_cache(other, reading, "raise")
    go_on.set()
    maker.join()
    assert maker.exitcode == 0  # it found its file when it gave it its name
    assert_holds(cached, other)


@linux
@pytest.mark.filterwarnings("ignore:.*fork")
def test_a_worker_that_ends_frees_nothing(images, shared_memory):
    cached = open_cache(images, Reading(cache="ram"), "raise")

    def end():
        nonlocal cached
        del cached
        gc.collect()

    fork(end).join()
    assert len(files(shared_memory)) == 1
    assert_holds(cached, images)


def test_a_file_that_vanishes_before_it_is_locked_is_made_anew(images, disk, monkeypatch):
    open_cache(images, disk, "raise")
    (path,) = disk.folder.glob("*.images")
    share_lock = cache.share_lock

    def late(file):
        monkeypatch.setattr(cache, "share_lock", share_lock)
        path.unlink()  # by the last process that used it
        share_lock(file)

    monkeypatch.setattr(cache, "share_lock", late)
    assert_holds(open_cache(images, disk, "raise"), images)
    assert path.exists()


@linux
def test_a_file_that_is_new_is_not_cleared_away(images, shared_memory, monkeypatch):
    class Interrupted(cache.CachedImages):
        def __init__(self, path, shapes):
            cache._remove_unused(path.parent)  # by a process whose cache is of other settings
            super().__init__(path, shapes)

    monkeypatch.setattr(cache, "CachedImages", Interrupted)
    for _ in range(2):  # made, and found
        cached = open_cache(images, Reading(cache="ram"), "raise")
        assert len(files(shared_memory)) == 1
        assert_holds(cached, images)
