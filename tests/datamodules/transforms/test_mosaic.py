import numpy as np
import pytest

from datamodules.batch import ImageInfo, Key, Sample
from datamodules.loading.dataset import DetectionDataset
from datamodules.transforms.augment import Augment
from datamodules.transforms.geometry import compose
from datamodules.transforms.mosaic import CENTRE, mosaic, partners


def grey_sample(level, height=64, width=64, boxes=()):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    return Sample(
        image=np.full((height, width, 3), level, dtype=np.uint8),
        boxes=boxes,
        labels=np.full(len(boxes), level),
        ignore_boxes=np.zeros((0, 4), dtype=np.float32),
        info=ImageInfo(image_id=level, file_name="", size=(height, width)),
    )


def mosaicked(samples, size, augment, rng):
    return compose(samples, mosaic(samples, size, augment, rng), size, augment.min_visibility)


def test_four_images_meet_in_one_point_and_fill_the_canvas():
    samples = [grey_sample(level) for level in (10, 20, 30, 40)]
    for seed in range(20):
        # The smallest zoom leaves each image at least as large as the largest quarter, 0.7 of the canvas.
        result = mosaicked(samples, (50, 100), Augment(scale=(1.5, 2)), np.random.default_rng(seed))
        image = result.image[..., 0]
        assert image[0, 0] == 10
        assert image[0, -1] == 20
        assert image[-1, 0] == 30
        assert image[-1, -1] == 40
        x, y = int((image[0] == 10).sum()), int((image[:, 0] == 10).sum())
        assert CENTRE[0] * 100 - 1 <= x <= CENTRE[1] * 100 + 1
        assert CENTRE[0] * 50 - 1 <= y <= CENTRE[1] * 50 + 1
        assert (image[:y, :x] == 10).all()
        assert (image[y:, x:] == 40).all()
        assert result.info.image_id == 10


def test_objects_keep_the_size_they_have_alone():
    # A box of 8 x 8 in a 64 x 64 image, letterboxed into 64 x 64 at zoom 1: 8 x 8, in a mosaic too.
    samples = [grey_sample(level, boxes=[[28, 28, 36, 36]]) for level in (10, 20, 30, 40)]
    sizes = []
    for seed in range(40):
        result = mosaicked(samples, (64, 64), Augment(scale=(1, 1)), np.random.default_rng(seed))
        whole = result.boxes[((result.boxes > 0.5) & (result.boxes < 63.5)).all(axis=1)]
        sizes += (whole[:, 2:] - whole[:, :2]).max(axis=1).tolist()
    assert len(sizes) > 40
    assert np.median(sizes) == 8
    assert max(sizes) <= 8


def test_labels_stay_with_their_boxes():
    samples = [grey_sample(level, boxes=[[16, 16, 48, 48]]) for level in (10, 20, 30, 40)]
    for seed in range(20):
        result = mosaicked(samples, (64, 64), Augment(), np.random.default_rng(seed))
        for box, label in zip(result.boxes, result.labels, strict=True):
            x, y = ((box[:2] + box[2:]) / 2).astype(int)
            assert result.image[y, x, 0] == label


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9])
def test_partners_are_others_of_the_batch(count):
    for seed in range(30):
        drawn = partners(count, 0, np.random.default_rng(seed))
        assert len(drawn) == 3
        assert set(drawn) <= set(range(count))
        assert count == 1 or 0 not in drawn
        assert count < 4 or len(set(drawn)) == 3


def test_every_image_is_decoded_once_a_batch(coco_folder, monkeypatch):
    reads = []
    original = DetectionDataset.read
    monkeypatch.setattr(DetectionDataset, "read", lambda *args: reads.append(args[1]) or original(*args))
    module = coco_folder.module(augment=Augment(mosaic=1))
    module.setup("fit")
    batch = next(iter(module.train_dataloader()))
    assert len(batch) == len(reads) == 2
    assert len(set(reads)) == 2


def test_mosaic_is_a_function_of_seed_epoch_and_batch(coco_folder):
    module = coco_folder.module(augment=Augment(mosaic=1))
    module.setup("fit")
    records = module.records["train"].images

    def batch(keys, seed=0):
        return DetectionDataset(records, (32, 48), Augment(mosaic=1), seed).__getitems__(keys)

    keys = [Key(3, i, (32, 48)) for i in range(4)]
    epoch, partner = Key(4, 0, (32, 48)), Key(3, 5, (32, 48))
    first, again = batch(keys), batch(keys)
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
    for changed in (batch(keys, seed=1)[0], batch([epoch, *keys[1:]])[0], batch([*keys[:1], partner])[0]):
        assert not np.array_equal(first[0].image, changed.image)


def test_mosaic_closes_for_the_last_epochs(coco_folder):
    module = coco_folder.module()
    module.setup("fit")
    records = module.records["train"].images
    plain = DetectionDataset(records, (32, 48), Augment(mosaic=0))
    closing = DetectionDataset(records, (32, 48), Augment(mosaic=1), mosaic_epochs=2)
    for epoch, same in ((0, False), (1, False), (2, True), (3, True)):
        keys = [Key(epoch, i, (32, 48)) for i in range(2)]
        pairs = zip(closing.__getitems__(keys), plain.__getitems__(keys), strict=True)
        assert all(np.array_equal(one.image, other.image) for one, other in pairs) == same
