import json

import numpy as np
import pytest

from datamodules.batch import ANY_CLASS
from datamodules.formats.coco import read_categories, read_coco
from datamodules.modules import CocoDataModule
from datamodules.problems import DataError


def read(folder, ignore_categories=("dontcare",), class_names=None):
    folder.save()
    return read_coco(folder.json, folder.images, ignore_categories, class_names)


def test_classes_follow_the_category_ids(coco_folder):
    # Categories in the file: 7 ship, 3 car, 5 dontcare.
    records = read(coco_folder)
    assert records.class_names == ["car", "ship"]
    assert records.category_ids == [3, 7]
    assert read_categories(coco_folder.json) == {7: "ship", 3: "car", 5: "dontcare"}


def test_annotations_are_untouched_corner_boxes(coco_folder):
    coco_folder.annotate(1, 7, [1.5, 2, 10, 4], area=12)
    annotations = read(coco_folder).images[0].annotations
    np.testing.assert_array_equal(annotations.boxes, [[10, 10, 30, 20], [1.5, 2, 11.5, 6]])
    assert annotations.labels.tolist() == [0, 1]
    assert annotations.areas.tolist() == [200, 12]  # 20 x 10, and as given
    assert annotations.boxes.dtype == annotations.areas.dtype == np.float32
    assert annotations.ignore_boxes.shape == (0, 4)


def test_crowds_and_ignored_categories_become_ignore_boxes(coco_folder):
    coco_folder.annotate(2, 7, [0, 0, 5, 5], iscrowd=1)
    coco_folder.annotate(2, 5, [1, 1, 6, 6])
    annotations = read(coco_folder).images[1].annotations
    assert annotations.labels.tolist() == [0]
    np.testing.assert_array_equal(annotations.ignore_boxes, [[0, 0, 5, 5], [1, 1, 7, 7]])
    assert annotations.ignore_labels.tolist() == [1, ANY_CLASS]


def test_ignore_boxes_reach_the_batch(coco_folder):
    coco_folder.annotate(2, 5, [0, 0, 64, 48])
    coco_folder.save()
    module = coco_folder.module(image_size=(48, 64))
    module.setup("validate")
    batch = next(iter(module.val_dataloader()))
    assert batch.ignore_boxes.tolist() == [[0, 0, 64, 48]]
    assert batch.ignore_index.tolist() == [1]


def test_class_names_impose_the_order(coco_folder):
    coco_folder.annotate(1, 7, [0, 0, 5, 5])
    records = read(coco_folder, class_names=["ship", "train", "car"])
    assert records.class_names == ["ship", "train", "car"]
    assert records.category_ids == [7, 8, 3]  # train, which the file does not have, gets a free id
    assert records.images[0].annotations.labels.tolist() == [2, 0]
    coco_folder.save()
    module = coco_folder.module(class_names=["ship", "train", "car"])
    module.setup("validate")
    assert module.class_names == ["ship", "train", "car"]
    assert module.category_ids == [7, 8, 3]


def test_category_without_annotations_need_not_be_known(coco_folder):
    assert read(coco_folder, class_names=["car"]).category_ids == [3]  # no ship is annotated


def test_boxes_that_vanish_are_left_out_with_one_warning(coco_folder):
    coco_folder.annotate(1, 3, [5, 5, 0, 4])  # no width
    coco_folder.annotate(1, 3, [5, 5, 4, -1])  # negative height
    coco_folder.annotate(2, 3, [64, 5, 4, 4])  # just outside on the right
    coco_folder.annotate(2, 3, [-4, 5, 4, 4])  # just outside on the left
    coco_folder.annotate(2, 3, [63, 47, 4, 4])  # one pixel inside
    with pytest.warns(UserWarning, match="4 of 11 boxes without size or outside their image are left out"):
        records = read(coco_folder)
    assert [len(record.annotations.boxes) for record in records.images[:2]] == [1, 2]


def test_images_without_annotations_stay(coco_folder):
    coco_folder.data["annotations"] = []
    records = read(coco_folder)
    assert len(records.images) == 6
    assert records.images[0].annotations.boxes.shape == (0, 4)


def test_images_in_subfolders(coco_folder):
    (coco_folder.images / "deep").mkdir()
    (coco_folder.images / "1.png").rename(coco_folder.images / "deep" / "1.png")
    coco_folder.data["images"][0]["file_name"] = "deep/1.png"
    assert read(coco_folder).images[0].path == str(coco_folder.images / "deep" / "1.png")


# --------------------------------------------------------------------------------------------- mistakes


def set_(key, row, **entries):
    return lambda data: data[key][row].update(entries)


def drop(key, row, entry):
    return lambda data: data[key][row].pop(entry)


MISTAKES = [
    (lambda data: data.pop("images"), "has no list 'images'"),
    (lambda data: data.update(annotations={}), "has no list 'annotations'"),
    (lambda data: data["images"].clear(), "lists no images"),
    (lambda data: data["categories"].clear(), "has no category"),
    (drop("images", 2, "file_name"), r"images\[2\] is malformed \(no entry 'file_name'\)"),
    (set_("images", 2, height=-1), r"images\[2\] is malformed \(height is -1\)"),
    (set_("images", 2, id=1), r"images\[2\] is malformed \(image id 1 occurs twice\)"),
    (set_("images", 2, file_name="none.png"), r"none\.png does not exist; 1 of the 6 images"),
    (drop("annotations", 3, "bbox"), r"annotations\[3\] is malformed \(no entry 'bbox'\)"),
    (set_("annotations", 3, bbox=[1, 2, 3]), r"annotations\[3\] is malformed"),
    (set_("annotations", 3, bbox=[1, 2, "wide", 3]), r"annotations\[3\] is malformed"),
    (
        set_("annotations", 3, bbox=[1, 2, float("nan"), 3]),
        r"annotations\[3\] .*width is nan, not a finite",
    ),
    (set_("annotations", 3, bbox=[1, 2, 1e300, 3]), r"annotations\[3\] .* is not in pixels"),
    (set_("annotations", 3, category_id=9), r"annotations\[3\] .*category_id 9 is not among"),
    (set_("annotations", 3, category_id=[3]), r"annotations\[3\] is malformed"),
    (set_("annotations", 3, image_id=99), r"annotations\[3\] .*image_id 99 is not among"),
    (lambda data: data["annotations"].insert(3, "row"), r"annotations\[3\] is malformed"),
    (drop("categories", 1, "name"), r"categories\[1\] is malformed"),
    (
        lambda data: (set_("categories", 0, name="car")(data), set_("annotations", 0, category_id=7)(data)),
        "categories of the same name",
    ),
    (set_("categories", 0, id=3), r"categories\[1\] is malformed \(category id 3 occurs twice\)"),
    (set_("images", 2, height=float("inf")), r"images\[2\] is malformed"),
]


@pytest.mark.parametrize(("change", "message"), MISTAKES)
def test_malformed_files_give_one_message_with_file_and_row(coco_folder, change, message):
    change(coco_folder.data)
    with pytest.raises(DataError, match=message) as caught:
        read(coco_folder)
    text = str(caught.value)
    assert str(coco_folder.images.parent) in text
    assert "\n" not in text


def test_unknown_category_names_itself_and_the_remedy(coco_folder):
    coco_folder.annotate(4, 7, [0, 0, 5, 5])
    with pytest.raises(DataError, match=r"annotations\[6\] is of category 'ship'.*ignore_categories"):
        read(coco_folder, class_names=["car", "plane"])


def test_mistyped_ignore_category_is_not_passed_over(coco_folder):
    with pytest.raises(DataError, match=r"no category \['dontcar'\].*ship, car, dontcare"):
        read(coco_folder, ignore_categories=["dontcar"])


def test_every_category_ignored(coco_folder):
    with pytest.raises(DataError, match="no category to detect"):
        read(coco_folder, ignore_categories=["car", "ship", "dontcare"])


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\xff"])
def test_files_that_are_no_coco_json(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DataError, match=r"a\.json is not"):
        read_categories(path)


def test_missing_files(coco_folder, tmp_path):
    missing = tmp_path / "missing.json"
    with pytest.raises(DataError, match=r"missing\.json cannot be read \(No such file"):
        CocoDataModule(coco_folder.images, coco_folder.json, coco_folder.images, missing).setup("fit")
    with pytest.raises(DataError, match=r"nowhere is not a folder: give the folder of the images of"):
        read_coco(coco_folder.json, tmp_path / "nowhere")


def test_training_file_is_not_needed_for_evaluation(coco_folder, tmp_path):
    nowhere = tmp_path / "nowhere"
    module = CocoDataModule(nowhere, nowhere, coco_folder.images, coco_folder.json, ["dontcare"])
    module.setup("validate")
    assert module.class_names == ["car", "ship"]


# --------------------------------------------------------------------------------------------- real data


def test_hituav(shared_data):
    root = shared_data / "hituav"
    module = CocoDataModule(
        root / "train",
        root / "train.json",
        root / "val",
        root / "val.json",
        ignore_categories=["DontCare"],
        image_size=(256, 320),
    )
    module.setup("fit")
    assert module.class_names == ["Person", "Car", "Bicycle", "OtherVehicle"]
    assert module.category_ids == [1, 2, 3, 4]
    train = module.records["train"].images
    counts = json.loads((root / "train.json").read_text())
    assert len(train) == len(counts["images"]) == 902
    boxes = sum(len(record.annotations.boxes) for record in train)
    ignored = sum(len(record.annotations.ignore_boxes) for record in train)
    assert (boxes, ignored) == (7743 - 58, 58)
    batch = next(iter(module.train_dataloader()))
    assert batch.images.shape == (16, 3, 256, 320)
    assert (batch.boxes[:, 2:] > batch.boxes[:, :2]).all()
