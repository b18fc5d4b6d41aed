import gc
import multiprocessing
import os
import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.batch import Annotations, Batch, ImageInfo, Sample, collate
from datamodules.loading.handover import AHEAD, HELD, Handover, Parcel
from datamodules.loading.samplers import Sampling

forked = pytest.mark.skipif(
    multiprocessing.get_context().get_start_method() != "fork", reason="workers are not forked here"
)
SHAPE = (2, 5, 7, 3)
SIZE = 2 * 5 * 7 * 3


def samples(seed, count=2, size=(5, 7), **more):
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 5, (seed % 3, 4)).astype(np.float32)
    return [
        Sample(
            image=rng.integers(0, 256, (*size, 3), dtype=np.uint8),
            boxes=boxes,
            labels=np.arange(len(boxes)),
            ignore_boxes=boxes[:1],
            info=ImageInfo(seed, f"{seed}.jpg", size),
            **more,
        )
        for _ in range(count)
    ]


class Batches(torch.utils.data.Dataset):
    """Item i is the samples of batch i."""

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return samples(index)


def first_of(handover):
    """What DataLoader's collate_fn gets when an item is a batch."""
    return lambda items: handover(items[0])


def loader(handover, workers):
    return DataLoader(Batches(), batch_size=1, num_workers=workers, collate_fn=first_of(handover))


def assert_equal(batch, expected):
    assert type(batch) is Batch
    assert batch.infos == expected.infos
    for name in ("images", "boxes", "labels", "image_index", "ignore_boxes", "ignore_index"):
        one, other = getattr(batch, name), getattr(expected, name)
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def in_slots(batch, slots):
    whole = np.frombuffer(slots.memory, np.uint8)
    return 0 <= batch.images.data_ptr() - whole.ctypes.data < len(whole)


@forked
@pytest.mark.parametrize("workers", [1, 2])
def test_batches_arrive_through_the_same_memory_again_and_again(workers):
    handover = Handover(workers, SIZE)
    for number, batch in enumerate(loader(handover, workers)):
        assert_equal(batch, collate(samples(number)))
        assert in_slots(batch, handover.slots)
    assert number == 39
    del batch
    assert not handover.slots.taken.any()


@forked
def test_kept_batches_stay_as_they_are():
    handover = Handover(1, SIZE)
    kept = list(loader(handover, 1))
    for number, batch in enumerate(kept):
        assert_equal(batch, collate(samples(number)))
    assert [in_slots(batch, handover.slots) for batch in kept] == [True] * (AHEAD + HELD) + [False] * (
        40 - AHEAD - HELD
    )
    assert handover.slots.taken.all()


@forked
def test_a_view_keeps_its_slot():
    handover = Handover(1, SIZE)
    batches = iter(loader(handover, 1))
    row = next(batches).images[1, 0, 2]
    copy = row.clone()
    for batch in batches:
        assert in_slots(batch, handover.slots)
    assert torch.equal(row, copy)
    del batch
    assert handover.slots.taken.sum() == 1
    del row
    assert not handover.slots.taken.any()


@forked
def test_memory_outlives_the_loader():
    handover = Handover(1, SIZE)
    batch = next(iter(loader(handover, 1)))
    del handover
    gc.collect()
    assert_equal(batch, collate(samples(0)))


@forked
def test_a_forked_process_frees_nothing():
    handover = Handover(1, SIZE)
    kept = list(loader(handover, 1))  # all slots are taken
    child = os.fork()
    if not child:
        del kept
        os._exit(0)
    os.waitpid(child, 0)
    assert handover.slots.taken.all()


@forked
def test_a_batch_too_large_for_a_slot_goes_the_usual_way():
    handover = Handover(2, SIZE - 1)
    handover.slots.size = SIZE - 1  # slots are whole pages
    for number, batch in enumerate(loader(handover, 2)):
        assert_equal(batch, collate(samples(number)))
        assert not in_slots(batch, handover.slots)


@forked
def test_slots_and_loaders_are_apart():
    places = []
    for slots in (Handover(2, 5000).slots, Handover(1, 5000).slots):
        while (slot := slots.take(5000)) is not None:
            images = slots.images(slot, (5000,))
            images[:] = len(places)
            places.append(images)
    assert len(places) == 2 * AHEAD + HELD + AHEAD + HELD
    assert all((images == number).all() for number, images in enumerate(places))


@forked
def test_two_loaders_at_once():
    one, other = Handover(2, SIZE), Handover(1, SIZE)
    for number, pair in enumerate(zip(loader(one, 2), loader(other, 1), strict=True)):
        for batch, handover in zip(pair, (one, other), strict=True):
            assert_equal(batch, collate(samples(number)))
            assert in_slots(batch, handover.slots)


@forked
def test_batches_of_a_data_module_come_by_slots(coco_folder):
    for rectangular in (False, True):
        sampling = Sampling(rectangular=rectangular)
        module = coco_folder.module(num_workers=1, batch_size=2, sampling=sampling)
        module.setup("fit")
        for batches in (module.train_dataloader(), module.val_dataloader()):
            for batch in batches:
                assert in_slots(batch, batches.collate_fn.slots)


@forked
def test_a_batch_that_fails_leaves_no_slot_taken(monkeypatch):
    handover = Handover(1, SIZE)
    monkeypatch.setattr("datamodules.loading.handover.get_worker_info", lambda: True)
    with pytest.raises(ValueError, match="shape"):
        handover([*samples(0, count=1), *samples(1, count=1, size=(4, 4))])
    assert not handover.slots.taken.any()


@forked
def test_two_passes_over_a_loader_at_once():
    one = loader(Handover(2, SIZE), 2)
    for number, pair in enumerate(zip(one, one, strict=True)):
        for batch in pair:
            assert_equal(batch, collate(samples(number)))


def test_no_slots_without_forked_workers(monkeypatch):
    assert Handover(0, SIZE).slots is None
    monkeypatch.setattr(multiprocessing, "get_context", lambda: multiprocessing.context.SpawnContext())
    handover = Handover(2, SIZE)
    assert handover.slots is None
    assert pickle.loads(pickle.dumps(handover)).slots is None
    monkeypatch.undo()
    assert pickle.loads(pickle.dumps(Handover(2, SIZE))).slots is None  # as it goes to a spawned worker


def test_in_the_training_process_it_is_collate():
    assert_equal(Handover(0, SIZE)(samples(1)), collate(samples(1)))
    assert_equal(Handover(2, SIZE)(samples(1)), collate(samples(1)))


def test_a_parcel_keeps_everything():
    empty = np.empty(0, dtype=np.float32)
    original = Annotations(empty.reshape(0, 4), empty.astype(np.int64), empty, empty.reshape(0, 4), empty)
    expected = collate(samples(2, annotations=original, colour=np.array([1, 2, 3, 4], np.float32)))
    batch = pickle.loads(pickle.dumps(Parcel(expected)))
    assert_equal(batch, expected)
    assert torch.equal(batch.colour, expected.colour)
    assert len(batch.annotations) == 2
    assert batch.annotations[0].ignore_boxes.shape == (0, 4)
    batch.boxes += 1  # its own memory, to be written to
    assert pickle.loads(pickle.dumps(Parcel(collate(samples(2))))).colour is None
