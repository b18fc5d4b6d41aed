"""Every chain of augmentations, on rectangles of known colours: what a box says is what the image shows."""

from dataclasses import replace

import albumentations as A
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datamodules.batch import ImageInfo, Key, Sample
from datamodules.transforms import mosaic as mosaic_module
from datamodules.transforms.augment import Augment
from datamodules.transforms.finish import Finish
from datamodules.transforms.plan import apply_plan, draw_plan

CANVAS = (112, 144)

# Twelve hues at full brightness; on black ground every blend of an object with its surroundings keeps them.
HUES = np.array(
    [
        *[(2, 0, 0), (0, 2, 0), (0, 0, 2), (2, 2, 0), (2, 0, 2), (0, 2, 2)],
        *[(2, 1, 0), (0, 2, 1), (1, 0, 2), (2, 0, 1), (1, 2, 0), (0, 1, 2)],
    ]
)
IGNORED = 8  # hues from here on are those of ignore boxes, one an image; the others' number is the label

GEOMETRY = {
    "none": [],
    "rotate": [A.Rotate(limit=(-40, 40), p=1)],
    "perspective": [A.Perspective(scale=(0.05, 0.15), p=1)],
    "affine": [A.Affine(scale=(0.5, 2), rotate=(-20, 20), shear=(-10, 10), p=1)],
    "crop": [A.RandomSizedCrop((60, 112), CANVAS, p=1)],
    "several": [A.OneOf([A.Transpose(p=0), A.Rotate(p=1), A.SafeRotate(p=1)], p=1), A.Perspective(p=0.5)],
}


@st.composite
def images(draw, first_hue):
    """Up to two objects and an ignore box, each in its own quarter or the last beside the first object."""
    height, width = draw(st.integers(64, 160)), draw(st.integers(64, 160))
    image = np.zeros((height, width, 3), dtype=np.uint8)
    hues = [first_hue, first_hue + 1, IGNORED + first_hue // 2]
    boxes = []
    for k in range(3):
        low_x, low_y = (k % 2) * width // 2 + 6, (k // 2) * height // 2 + 6
        x1, y1 = draw(st.integers(low_x, low_x + 4)), draw(st.integers(low_y, low_y + 4))
        w, h = draw(st.integers(5, width // 2 - 16)), draw(st.integers(5, height // 2 - 16))
        if k == 2 and draw(st.booleans()):
            x1, y1, w, h = boxes[0][2] + 1, boxes[0][1], 5, boxes[0][3] - boxes[0][1]
        boxes.append((x1, y1, x1 + w, y1 + h))
        image[y1 : y1 + h, x1 : x1 + w] = HUES[hues[k]] * 127.5
    objects = draw(st.integers(0, 2))
    for x1, y1, x2, y2 in boxes[objects:2]:
        image[y1:y2, x1:x2] = 0
    reduction = draw(st.sampled_from([1, 2]))  # the file may have been decoded at half its size
    return Sample(
        image=image,
        boxes=np.array(boxes[:objects], dtype=np.float32).reshape(-1, 4),
        labels=np.array(hues[:objects], dtype=np.int64),
        ignore_boxes=np.array(boxes[2:], dtype=np.float32),
        info=ImageInfo(first_hue, "", (height * reduction, width * reduction)),
    )


switch = st.sampled_from([0.0, 1.0])
augments = st.builds(
    Augment,
    flip=st.just(0.5),
    vertical_flip=st.just(0.5),
    scale=st.tuples(st.floats(0.5, 1), st.floats(1, 2)),
    translate=st.floats(0, 0.5),
    min_visibility=st.sampled_from([0.0, 0.2, 0.6]),
    tile=switch,
    mosaic=switch,
    mixup=switch,
    copy_paste=switch,
)


def regions(image):
    """Connected regions of one hue that are large enough to be seen: hue and box of each."""
    bright, saturated = image.max(axis=2) > 127, np.ptp(image.astype(int), axis=2) > 64
    unit = HUES / np.linalg.norm(HUES, axis=1, keepdims=True)
    colour = (image - image.min(axis=2, keepdims=True)).astype(float)
    hue = (colour @ unit.T).argmax(axis=2)
    found = []
    for k in range(len(HUES)):
        mask = (bright & saturated & (hue == k)).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        for x, y, w, h, pixels in stats[1:].tolist():
            # At a seam of a mosaic a rotation blends two hues into a third, a line of pixels wide.
            if min(w, h) >= 4 and pixels >= 12:
                found.append((k, np.array([x, y, x + w, y + h])))
    return found


def check(image, boxes, labels, ignore_boxes, tight):
    """Every region lies in a box of its label or an ignore box; every box of some size has its region.

    Tight boxes fit to 1.5 pixels; else a region may be smaller than its box, as a corner is of a turned
    rectangle that the edge cuts.
    """
    shown = regions(image)

    def fits(box, region):
        difference = (region - box) * (1, 1, -1, -1)  # positive inwards
        return difference.min() >= -1.5 and (not tight or difference.max() <= 1.5)

    for hue, region in shown:
        own = boxes[labels == hue]
        assert any(fits(box, region) for box in [*own, *ignore_boxes]), (hue, region, own, ignore_boxes)
    for box, label in zip(boxes, labels, strict=True):
        if tight and (box[2:] - box[:2]).min() >= 5.5:
            assert any(hue == label and fits(box, region) for hue, region in shown), (label, box, shown)
    if len(boxes):
        assert boxes.min() >= 0
        assert (boxes[:, 2:] <= (CANVAS[1], CANVAS[0])).all()


@pytest.mark.slow
@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    batch=st.tuples(*(images(first_hue) for first_hue in (0, 2, 4, 6))),
    augment=augments,
    geometry=st.sampled_from(sorted(GEOMETRY)),
    seed=st.integers(0, 2**32),
)
def test_boxes_and_images_agree_after_any_chain(batch, augment, geometry, seed):
    augment = replace(augment, extra=GEOMETRY[geometry])
    finish, key = Finish(augment), Key(0, seed, CANVAS)
    tight = geometry in ("none", "crop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mosaic_module, "FAINTEST", 0.5)  # both images of a blend at exactly half

        def sample(mixup):
            """The sample of a fresh plan, whose generators start over, before and after its finish."""
            plan = draw_plan(augment, 0, key, own=0, count=4, closed=False)
            composed = apply_plan(plan if mixup else replace(plan, mixup=None), batch, augment)
            return composed, finish(composed, plan.rng)

        (first, finished), (both, blended) = sample(mixup=False), sample(mixup=True)
    check(finished.image, finished.boxes, finished.labels, finished.ignore_boxes, tight)
    if not augment.mixup:
        np.testing.assert_array_equal(blended.image, finished.image)
        return
    # The blend is half of each; the rest of the objects is the second image's.
    n, m = len(first.boxes), len(first.ignore_boxes)
    np.testing.assert_array_equal(both.boxes[:n], first.boxes)
    np.testing.assert_array_equal(both.ignore_boxes[:m], first.ignore_boxes)
    second = np.clip(both.image.astype(int) * 2 - first.image, 0, 255).astype(np.uint8)
    check(second, both.boxes[n:], both.labels[n:], both.ignore_boxes[m:], tight=True)


@pytest.mark.parametrize(
    "transform",
    [
        A.ToGray(p=1),
        A.CLAHE(p=1),
        A.GaussNoise(p=1),
        A.ImageCompression(quality_range=(30, 60), p=1),
        A.RandomBrightnessContrast(p=1),
        A.MotionBlur(p=1),
    ],
    ids=lambda transform: type(transform).__name__,
)
@pytest.mark.filterwarnings("error")
def test_colour_transforms_leave_the_boxes(transform):
    rng = np.random.default_rng(0)
    boxes = np.array([[1.25, 2.5, 9.75, 11], [0, 0, 144, 112]], dtype=np.float32)
    sample = Sample(
        image=rng.integers(0, 256, (*CANVAS, 3), dtype=np.uint8),
        boxes=boxes,
        labels=np.array([3, 1]),
        ignore_boxes=boxes[:1] + 20,
        info=ImageInfo(0, "", CANVAS),
    )
    result = Finish(Augment(flip=0, extra=[transform]))(sample, rng)
    assert not np.array_equal(result.image, sample.image)
    np.testing.assert_allclose(result.boxes, boxes, atol=1e-4)
    assert result.labels.tolist() == [3, 1]
    np.testing.assert_allclose(result.ignore_boxes, boxes[:1] + 20, atol=1e-4)
