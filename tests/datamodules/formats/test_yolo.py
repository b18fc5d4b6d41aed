import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from datamodules.batch import ANY_CLASS
from datamodules.formats.yolo import label_path, read_description, read_yolo
from datamodules.modules import YoloDataModule
from datamodules.problems import DataError, Problems


class YoloFolder:
    """Two training and two validation images of 100 x 50 pixels; all but the last have a label file."""

    def __init__(self, folder):
        self.folder, self.file = folder, folder / "data.yaml"
        self.data = {"path": ".", "train": "images/train", "val": "images/val", "names": ["car", "ship"]}
        for split, stems in (("train", "ab"), ("val", "cd")):
            (folder / "images" / split).mkdir(parents=True)
            (folder / "labels" / split).mkdir(parents=True)
            for stem in stems:
                self.image(f"{split}/{stem}.png")
        for stem in ("train/a", "train/b", "val/c"):
            self.label(stem, "1 0.5 0.5 0.2 0.4")
        self.save()

    def image(self, name):
        cv2.imwrite(str(self.folder / "images" / name), np.full((50, 100, 3), 90, np.uint8))

    def label(self, stem, text):
        (self.folder / "labels" / f"{stem}.txt").write_text(text)

    def save(self):
        self.file.write_text(yaml.safe_dump(self.data))

    def read(self, split="train", ignored=(), names=None, on_error="raise"):
        self.save()
        self.problems = Problems(on_error)
        return read_yolo(read_description(self.file), split, ignored, names, self.problems)


@pytest.fixture
def yolo_folder(tmp_path):
    return YoloFolder(tmp_path / "set")


def test_shares_become_corner_boxes_in_pixels(yolo_folder):
    yolo_folder.label("train/a", "1 0.5 0.5 0.2 0.4\n\n0 0.1 0.2 0.2 0.4\n")
    records = yolo_folder.read()
    # 100 x 50 pixels: centre (50, 25), sides 20 and 20; centre (10, 10), sides 20 and 20.
    np.testing.assert_allclose(
        records.images[0].annotations.boxes, [[40, 15, 60, 35], [0, 0, 20, 20]], atol=1e-4
    )
    assert records.images[0].annotations.labels.tolist() == [1, 0]
    assert records.class_names == ["car", "ship"]
    assert records.category_ids == [0, 1]
    assert [record.info.image_id for record in records.images] == [1, 2]
    assert [record.info.file_name for record in records.images] == [
        "images/train/a.png",
        "images/train/b.png",
    ]
    assert records.images[0].info.size == (50, 100)


def test_polygons_become_the_boxes_around_them(yolo_folder):
    # A triangle and, with four corners, a turned rectangle (OBB).
    yolo_folder.label("train/a", "0 0.1 0.2 0.3 0.2 0.2 0.6\n1 0.5 0.1 0.7 0.5 0.5 0.9 0.3 0.5")
    boxes = yolo_folder.read().images[0].annotations.boxes
    np.testing.assert_allclose(boxes, [[10, 10, 30, 30], [30, 5, 70, 45]], atol=1e-4)


def test_a_missing_label_file_is_an_image_without_objects_and_said_once(yolo_folder):
    with pytest.warns(
        UserWarning, match=r"val: 1 of 2 images have no label file, such as .*d\.txt"
    ) as caught:
        records = yolo_folder.read("val")
    assert [len(record.annotations.boxes) for record in records.images] == [1, 0]
    assert len(caught) == 1


def test_no_label_file_at_all_is_a_mistake(yolo_folder):
    (yolo_folder.folder / "labels" / "val" / "c.txt").unlink()
    with pytest.raises(DataError, match=r"2 of 2 images have no label file, such as .*labels.val.c\.txt"):
        yolo_folder.read("val", on_error="skip")


def test_labels_lie_in_place_of_the_last_images_folder(tmp_path):
    assert label_path(tmp_path / "images" / "x" / "images" / "y" / "images.jpg") == (
        tmp_path / "images" / "x" / "labels" / "y" / "images.txt"
    )
    assert label_path(tmp_path / "no" / "a.jpg") == tmp_path / "no" / "a.txt"


def test_ignored_categories(yolo_folder):
    records = yolo_folder.read(ignored=["ship"])
    annotations = records.images[0].annotations
    assert records.class_names == ["car"]
    assert len(annotations.boxes) == 0
    np.testing.assert_allclose(annotations.ignore_boxes, [[40, 15, 60, 35]], atol=1e-4)
    assert annotations.ignore_labels.tolist() == [ANY_CLASS]
    with pytest.raises(DataError, match=r"no category \['boat'\]"):
        yolo_folder.read(ignored=["boat"])


def test_class_names_impose_the_order(yolo_folder):
    records = yolo_folder.read(names=["ship", "plane", "car"])
    assert records.images[0].annotations.labels.tolist() == [0]
    assert records.category_ids == [1, 2, 0]
    with pytest.raises(
        DataError, match=r"a\.txt, line 1 is of category 'ship', which the model does not know"
    ):
        yolo_folder.read(names=["car"], on_error="skip")


def test_a_split_may_be_several_folders_or_lists(yolo_folder):
    (yolo_folder.folder / "list.txt").write_text("./images/val/c.png\n\nimages/train/a.png\n")
    yolo_folder.data["train"] = ["list.txt", "images/train"]
    names = [record.info.file_name for record in yolo_folder.read().images]
    assert names == ["images/train/a.png", "images/train/b.png", "images/val/c.png"]


def test_images_elsewhere_keep_their_folders_in_their_names(yolo_folder, tmp_path):
    for flight in ("flight1", "flight2"):
        (yolo_folder.folder / "images" / "train" / flight).mkdir()
        yolo_folder.image(f"train/{flight}/0000.png")
    yolo_folder.data["path"] = str(yolo_folder.folder)
    yolo_folder.file = tmp_path / "cfg" / "data.yaml"
    yolo_folder.file.parent.mkdir()
    with pytest.warns(UserWarning, match="no label file"):
        names = [record.info.file_name for record in yolo_folder.read().images]
    assert names == ["a.png", "b.png", "flight1/0000.png", "flight2/0000.png"]


@pytest.mark.parametrize(
    ("path", "train"),
    [
        ("..", "set/images/train"),  # relative to the file
        ("../elsewhere/set", "images/train"),  # where the set was before it moved
        (None, "../images/train"),  # as an export has it, one folder too far up
    ],
)
def test_folders_are_found_relative_to_the_file(yolo_folder, path, train):
    yolo_folder.data |= {"path": path, "train": train}
    assert len(yolo_folder.read().images) == 2


def test_names_as_a_mapping(yolo_folder):
    yolo_folder.data["names"] = {1: "ship", 0: "car"}
    assert yolo_folder.read().class_names == ["car", "ship"]


def test_data_module(yolo_folder):
    module = YoloDataModule(yolo_folder.file, image_size=(50, 100), batch_size=2, num_workers=0)
    module.setup("fit")
    assert module.class_names == ["car", "ship"]
    assert module.test_split == "val"
    batch = next(iter(module.train_dataloader()))
    assert batch.images.shape == (2, 3, 50, 100)
    yolo_folder.image("val/e.png")
    yolo_folder.label("val/e", "0 0.5 0.5 1 1")
    yolo_folder.data["test"] = "images/val"
    yolo_folder.save()
    module = YoloDataModule(
        yolo_folder.file, image_size=(50, 100), class_names=["ship", "car"], num_workers=0
    )
    module.setup("test")
    assert module.test_split == "test"
    assert [len(batch.infos) for batch in module.test_dataloader()] == [3]


# --------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("1 0.5 0.5 0.2", "it has 3 numbers after the class"),
        ("1 0.5 0.5 0.2 0.4 0.9", "it has 5 numbers after the class"),  # a score at its end
        ("1", "it has 0 numbers"),
        ("2 0.5 0.5 0.2 0.4", "class 2 is not among the names of .*data.yaml"),
        ("0.5 0.5 0.5 0.2 0.4", "the class is '0.5', not a whole number"),
        ("-1 0.5 0.5 0.2 0.4", "class -1 is not among"),
        ("nan 0.5 0.5 0.2 0.4", "the class is 'nan', not a number"),
        ("1 50 25 20 20", "not all in 0..1: 50 25 20 20"),  # pixels
        ("1 0.5 0.5 -0.2 0.4", "not all in 0..1"),
        ("1 0.5 nan 0.2 0.4", "a share is 'nan', not a number"),
        ("1 0.5 inf 0.2 0.4", "a share is 'inf', not a number"),
        ("1 0,5 0,5 0,2 0,4", "the class is '1 0', not a number"),  # decimal commas
    ],
)
def test_malformed_rows(yolo_folder, row, reason):
    yolo_folder.label("train/b", f"\n0 0.5 0.5 1 1\n{row}\n")
    with pytest.raises(DataError, match=rf"b\.txt, line 3 is malformed \(.*{reason}"):
        yolo_folder.read()


def test_classes_that_count_from_one(yolo_folder):
    said = r"class 2 is not among .*data\.yaml: classes seem to count from 1 to 2, but the first is 0"
    yolo_folder.label("train/a", "2 0.5 0.5 0.2 0.4\n")
    with pytest.raises(DataError, match=said):
        yolo_folder.read()  # though the image after it is told by its own class 1
    yolo_folder.read(on_error="skip")
    assert len(yolo_folder.problems.found) == 1
    for row in ("0", "3"):  # then they do not
        yolo_folder.label("train/b", f"{row} 0.5 0.5 0.2 0.4\n1 0.5 0.5 0.1 0.1\n1 0.2 0.5 0.1 0.1\n")
        with pytest.raises(DataError, match=r"class 2 is not among the names of .*data\.yaml\)"):
            yolo_folder.read()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"names": None}, "names must be a list"),
        ({"names": {0: "car", 2: "ship"}}, "names must be a list, or a mapping from 0, 1, 2"),
        ({"names": ["car", None]}, "one is None"),
        ({"names": ["car", True]}, "one is True: put it in quotes"),
        ({"names": ["car", "car"]}, "categories of the same name"),
        ({"names": []}, "no category to detect"),
        ({"train": None}, "train must be a folder"),
        ({"train": 5}, "train must be a folder"),
        ({"val": None, "valid": "images/val"}, r"val must be a folder.*\(is valid meant\?\)"),
        ({"names": ["car", " "]}, "names has one that is blank"),
        ({"path": 5}, "path must be a folder"),
        ({"train": "images/trian"}, r"images.trian is neither a folder nor a \.txt file"),
        ({"train": "labels"}, "labels holds no images"),
    ],
)
def test_malformed_descriptions(yolo_folder, change, message):
    yolo_folder.data |= change
    with pytest.raises(DataError, match=message) as caught:
        yolo_folder.read(on_error="skip")
    assert "data.yaml" in str(caught.value)


@pytest.mark.parametrize("text", ["", "a", "{", "a: [", "2001-99-99", "a: \x00", "[" * 2000])
def test_files_that_are_no_data_yaml(tmp_path, text):
    file = tmp_path / "data.yaml"
    file.write_text(text)
    with pytest.raises(DataError, match=r"data\.yaml is not"):
        YoloDataModule(file)
    with pytest.raises(DataError, match=r"none\.yaml cannot be read"):
        YoloDataModule(tmp_path / "none.yaml")


def test_shares_are_those_of_the_displayed_image(yolo_folder):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored 100 x 50, displayed turned by 90 degrees: 50 x 100
    Image.new("RGB", (100, 50)).save(yolo_folder.folder / "images" / "train" / "t.jpg", exif=exif)
    yolo_folder.label("train/t", "0 0.5 0.25 0.2 0.1")
    record = yolo_folder.read().images[2]
    assert record.info.size == (100, 50)
    np.testing.assert_allclose(record.annotations.boxes, [[20, 20, 30, 30]], atol=1e-4)
