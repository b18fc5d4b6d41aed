"""Nonsense that is wrong in no row: stopped at, or said in one line."""

import numpy as np
import pytest

from datamodules.batch import Annotations, ImageInfo
from datamodules.modules import CocoDataModule
from datamodules.problems import DataError
from datamodules.records import Record, Records
from datamodules.setup_checks import check_setup

CLASSES = ["car", "ship"]


def records(name, *boxes, labels=None, size=(100, 200)):
    """One image (height, width) with xywh boxes for each list of them."""
    images = []
    for k, of_image in enumerate(boxes):
        corners = np.array(of_image, dtype=np.float32).reshape(-1, 4)
        corners[:, 2:] += corners[:, :2]
        found = np.array(labels[k] if labels else [0] * len(corners), dtype=np.int64)
        empty = np.empty((0, 4), np.float32)
        own = Annotations(corners, found, corners[:, 0], empty, found[:0])
        images.append(Record(f"{name}{k}.jpg", ImageInfo(k, f"{name}{k}.jpg", size), own))
    return Records(CLASSES, [1, 2], images)


def doubts(train, val, batch_size=1):
    return list(check_setup({"train": train, "val": val}, True, batch_size))


BOTH = [[0, 1]]
TWO = [[10, 10, 5, 5], [50, 50, 5, 5]]
FINE = {"train": records("t", TWO, labels=BOTH), "val": records("v", TWO, labels=BOTH)}


def test_nothing_to_say():
    assert doubts(**FINE) == []


def test_no_object():
    with pytest.raises(
        DataError, match=r"no object in any of the 2 images of train: look for their annotations"
    ):
        doubts(records("t", [], []), FINE["val"])
    with pytest.raises(DataError, match=r"no object in any of the 1 images of val"):
        doubts(FINE["train"], records("v", []))
    assert list(check_setup({"val": records("v", [])}, False, 1)) == [
        "no object in any of the 1 images of val: there is nothing to score"
    ]


def test_images_in_both_splits():
    (message,) = doubts(FINE["train"], records("t", TWO, TWO, labels=BOTH * 2))
    assert message.startswith("1 of 2 images of val are training images too")


def test_classes_without_objects():
    (message,) = doubts(records("t", TWO), FINE["val"])
    assert message == "classes ship are in val but not in train: divide again"
    (message,) = doubts(records("t", TWO), records("v", TWO))
    assert message == "classes ship have no object in train or val: are their names right?"


def test_a_batch_larger_than_the_data():
    (message,) = doubts(**FINE, batch_size=2)
    assert (
        message
        == "data.batch_size is 2, but there are 1 training images: an epoch is one step of all of them"
    )


def grid(centred):
    """Boxes of 10 x 6 all over the image, written as their two corners where x, y, w and h should be."""
    rows = [(x, y, x + 10, y + 6) for x in range(5, 190, 20) for y in range(5, 90, 20)]
    return [(a - c / 2, b - d / 2, c, d) if centred else (a, b, c, d) for a, b, c, d in rows]


@pytest.mark.parametrize("centred", [False, True])
def test_corners_in_place_of_width_and_height(centred):
    with pytest.raises(DataError, match=r"the boxes of train seem to be written as two corners"):
        doubts(records("t", grid(centred)), FINE["val"])


def test_few_corners_out_of_the_image_are_enough_if_all_make_sense():
    rows = [(x, y, x + 10, y + 6) for x in range(5, 110, 20) for y in range(5, 60, 15)]
    with pytest.raises(DataError, match=r"two corners.*: 38% of them"):
        doubts(records("t", rows), FINE["val"])


@pytest.mark.parametrize("box", [[0.1, 0.1, 0.3, 0.3], [-0.9, -0.9, 1.4, 1.2], [0, 0, 1, 1]])
def test_shares_of_the_image_in_place_of_pixels(box):
    with pytest.raises(DataError, match=r"no box of train reaches .*: they seem to be written as shares"):
        doubts(records("t", [box] * 3), FINE["val"])
    assert doubts(records("t", [box, *TWO], labels=[[0, *BOTH[0]]]), FINE["val"]) == []
    assert len(doubts(records("t", [[0, 0, 1, 1]], size=(1, 1)), FINE["val"])) == 1  # of ships


def test_images_that_are_listed_twice():
    train = records("t", TWO, TWO, labels=BOTH * 2)
    twice = Records(CLASSES, [1, 2], [train.images[0], train.images[1], train.images[1]])
    (message,) = doubts(twice, FINE["val"])
    assert message == "1 images of train are listed more than once, each with a part of the objects"


def test_boxes_out_of_their_images():
    outside = records("t", [[190, 10, 30, 20]] * 3 + [[10, 10, 9, 9]] * 7, labels=[[0, 1] * 5])
    (message,) = doubts(outside, FINE["val"])
    assert message.startswith("30% of the boxes of train reach out of their images and are clipped")
    # Large objects near the corner of every image make sense either way, and are inside.
    assert doubts(records("t", [[5, 5, 150, 80]] * 20, labels=[[0, 1] * 10]), FINE["val"]) == []


def test_classes_are_those_of_all_files(coco_folder, tmp_path):
    coco_folder.data["categories"] = [{"id": 1, "name": "car"}, {"id": 9, "name": "bus"}]
    coco_folder.data["annotations"] = [{"image_id": 1, "category_id": 9, "bbox": [1, 1, 9, 9]}]
    other = tmp_path / "train.json"
    coco_folder.save()
    coco_folder.json.rename(other)
    coco_folder.data["categories"] = [{"id": 3, "name": "van"}, {"id": 9, "name": "car"}]
    coco_folder.save()
    module = CocoDataModule(coco_folder.images, other, coco_folder.images, coco_folder.json)
    assert module.class_names == ["car", "bus", "van"]
    with pytest.warns(UserWarning, match="classes car are in val but not in train"):
        module.setup("fit")
    assert module.records["train"].images[0].annotations.labels.tolist() == [1]
    assert module.records["val"].images[0].annotations.labels.tolist() == [0]
    assert module.category_ids == [9, 10, 3]  # bus, which that file does not have, gets a free id
