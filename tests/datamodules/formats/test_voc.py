from xml.sax.saxutils import escape

import cv2
import numpy as np
import pytest

from datamodules.batch import ANY_CLASS
from datamodules.formats.voc import read_class_names, read_voc
from datamodules.modules import VocDataModule
from datamodules.problems import DataError, Problems


def box(name, xmin, ymin, xmax, ymax, more=""):
    sides = f"<xmin>{xmin}</xmin><ymin>{ymin}</ymin><xmax>{xmax}</xmax><ymax>{ymax}</ymax>"
    return f"<object><name>{escape(name)}</name>{more}<bndbox>{sides}</bndbox></object>"


SIZE = "<size><width>100</width><height>50</height><depth>3</depth></size>"


class VocFolder:
    """Two training images, one of validation and one of the test split, of 100 x 50 pixels."""

    def __init__(self, folder):
        self.folder = folder
        for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
            (folder / part).mkdir(parents=True)
        for split, stems in (("train", "ab"), ("val", "c"), ("test", "d")):
            (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(stems) + "\n")
            for stem in stems:
                cv2.imwrite(str(folder / "JPEGImages" / f"{stem}.jpg"), np.full((50, 100, 3), 90, np.uint8))
                self.annotate(stem, SIZE, box("ship", 11, 21, 20, 40))

    def annotate(self, stem, *parts):
        text = f"<annotation><filename>{stem}.jpg</filename>{''.join(parts)}</annotation>"
        (self.folder / "Annotations" / f"{stem}.xml").write_text(text)

    def read(self, split="train", ignored=(), names=None, on_error="raise"):
        return read_voc(self.folder, split, ignored, names, Problems(on_error))


@pytest.fixture
def voc_folder(tmp_path):
    return VocFolder(tmp_path / "VOC2007")


def test_pixels_count_from_one_and_the_last_is_inside(voc_folder):
    # Columns 11 to 20 counted from 1 are those from 10 to the edge at 20; a whole image is 1..100, 1..50.
    voc_folder.annotate(
        "a", SIZE, box("ship", 11, 21, 20, 40), box("car", 1, 1, 100, 50), box("car", 7, 7, 7, 7)
    )
    records = voc_folder.read()
    annotations = records.images[0].annotations
    np.testing.assert_array_equal(annotations.boxes, [[10, 20, 20, 40], [0, 0, 100, 50], [6, 6, 7, 7]])
    assert annotations.areas.tolist() == [200, 5000, 1]
    assert records.class_names == ["car", "ship"]
    assert annotations.labels.tolist() == [1, 0, 0]
    assert records.category_ids == [1, 2]
    assert [record.info.image_id for record in records.images] == [1, 2]
    assert [record.info.file_name for record in records.images] == ["a.jpg", "b.jpg"]


def test_difficult_objects_become_ignore_boxes_of_their_class(voc_folder):
    difficult, plain = "<difficult>1</difficult>", "<difficult>0</difficult>"
    voc_folder.annotate("a", SIZE, box("ship", 1, 1, 9, 9, difficult), box("car", 1, 1, 9, 9, plain))
    annotations = voc_folder.read().images[0].annotations
    assert annotations.labels.tolist() == [0]
    assert annotations.ignore_labels.tolist() == [1]
    np.testing.assert_array_equal(annotations.ignore_boxes, [[0, 0, 9, 9]])


def test_parts_of_an_object_are_no_objects(voc_folder):
    part = "<part><name>bow</name><bndbox><xmin>1</xmin></bndbox></part>"
    voc_folder.annotate("a", SIZE, box("ship", 1, 1, 9, 9, part))
    assert voc_folder.read().class_names == ["ship"]


def test_ignored_categories_and_class_names(voc_folder):
    voc_folder.annotate("a", SIZE, box("ship", 1, 1, 9, 9), box("car", 1, 1, 9, 9))
    annotations = voc_folder.read(ignored=["ship"]).images[0].annotations
    assert annotations.labels.tolist() == [0]
    assert annotations.ignore_labels.tolist() == [ANY_CLASS]
    records = voc_folder.read(names=["ship", "plane", "car"])
    assert records.images[0].annotations.labels.tolist() == [0, 2]
    assert records.category_ids == [1, 2, 3]
    with pytest.raises(
        DataError, match=r"a\.xml: object\[1\] is of category 'car', which the model does not"
    ):
        voc_folder.read(names=["ship"], on_error="skip")
    with pytest.raises(DataError, match=r"no category \['boat'\]"):
        VocDataModule(voc_folder.folder, ignore_categories=["boat"])


def test_class_names_are_those_of_training_and_validation(voc_folder):
    voc_folder.annotate("c", SIZE, box("plane", 1, 1, 9, 9))
    voc_folder.annotate("d", SIZE, box("train", 1, 1, 9, 9))
    voc_folder.annotate("b", "<object>")
    assert read_class_names(voc_folder.folder) == ["plane", "ship"]


def test_images_of_any_format_are_found_by_name(voc_folder):
    folder = voc_folder.folder / "JPEGImages"
    (folder / "a.jpg").unlink()
    cv2.imwrite(str(folder / "a.png"), np.zeros((50, 100, 3), np.uint8))
    assert voc_folder.read().images[0].path == str(folder / "a.png")


def test_images_keep_their_folders_in_their_names(voc_folder):
    for folder in ("JPEGImages", "Annotations"):
        (voc_folder.folder / folder / "flight1").mkdir()
    image = voc_folder.folder / "JPEGImages" / "a.jpg"
    image.rename(image.parent / "flight1" / "a.jpg")
    voc_folder.annotate("flight1/a", SIZE)
    (voc_folder.folder / "ImageSets" / "Main" / "train.txt").write_text("flight1/a\nb\n")
    assert [record.info.file_name for record in voc_folder.read().images] == ["b.jpg", "flight1/a.jpg"]


def test_other_files_beside_the_images(voc_folder):
    for suffix in (".json", ".txt", ".xml"):
        (voc_folder.folder / "JPEGImages" / f"a{suffix}").write_text("of a labelling tool")
    assert [record.info.file_name for record in voc_folder.read().images] == ["a.jpg", "b.jpg"]


def test_no_object_and_no_size(voc_folder):
    voc_folder.annotate("a")
    record = voc_folder.read().images[0]
    assert record.annotations.boxes.shape == (0, 4)
    assert record.info.size == (50, 100)


def test_data_module_with_and_without_a_test_split(voc_folder):
    module = VocDataModule(voc_folder.folder, image_size=(50, 100), num_workers=0)
    module.setup("test")
    (batch,) = module.test_dataloader()
    assert [info.file_name for info in batch.infos] == ["d.jpg"]
    assert batch.boxes.tolist() == [[10, 20, 20, 40]]
    (voc_folder.folder / "ImageSets" / "Main" / "test.txt").unlink()
    assert VocDataModule(voc_folder.folder).test_split == "val"


# --------------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        ("<object><name>ship</name></object>", "it has no bndbox/xmin"),
        (box("ship", 1, 1, 9, 9).replace("<ymax>9</ymax>", ""), "it has no bndbox/ymax"),
        (box("ship", 1, "", 9, 9), "it has no bndbox/ymin"),
        (box("ship", 1, "wide", 9, 9), "ymin is 'wide', not a number"),
        (box("ship", 1, "nan", 9, 9), "ymin is 'nan', not a number"),
        (box("ship", 1, "1e309", 9, 9), "ymin is inf, not a finite number"),
        (box("ship", 1, 1, 1e300, 9), "is not in pixels"),
        (box(" ", 1, 1, 9, 9), "it has no name"),
        (
            box("ship", 1, 1, 9, 9, "<difficult>perhaps</difficult>"),
            "difficult is 'perhaps': it must be",
        ),
    ],
)
def test_malformed_objects(voc_folder, entry, reason):
    voc_folder.annotate("a", SIZE, box("ship", 1, 1, 9, 9), entry)
    with pytest.raises(DataError, match=rf"a\.xml: object\[1\] is malformed \(.*{reason}"):
        voc_folder.read()
    assert [record.info.file_name for record in voc_folder.read(on_error="skip").images] == ["b.jpg"]


BOMB = '<!DOCTYPE a [<!ENTITY a "aaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]><annotation>&b;</annotation>'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (BOMB.encode(), "declares a document type"),
        (BOMB.encode("utf-16"), "declares a document type or is not UTF-8"),
        (b'<!DOCTYPE a SYSTEM "file:///etc/hostname"><annotation/>', "declares a document type"),
        (b"", "no element found"),
        (b"<annotation>", "no element found"),
        (b"<annotation>\xff</annotation>", "invalid start byte"),
        (b'<?xml version="1.0" encoding="none"?><annotation/>', "unknown encoding"),
        (b"<annotation><size><width>nine</width></size></annotation>", "width is 'nine', not a number"),
        (b"<html><object/></html>", "it begins with <html>, not with <annotation>"),
    ],
)
def test_malformed_files(voc_folder, content, reason):
    (voc_folder.folder / "Annotations" / "a.xml").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.xml cannot be read \(.*{reason}"):
        voc_folder.read()
    assert [record.info.file_name for record in voc_folder.read(on_error="skip").images] == ["b.jpg"]


def test_missing_parts(voc_folder):
    (voc_folder.folder / "Annotations" / "a.xml").unlink()
    with pytest.raises(DataError, match=r"a\.xml cannot be read \(No such file or directory\): restore"):
        voc_folder.read()
    (voc_folder.folder / "JPEGImages" / "a.jpg").unlink()
    with pytest.raises(
        DataError, match=r"a\.jpg does not exist; 1 of the 2 images of .*train.txt are missing"
    ):
        voc_folder.read()
    (voc_folder.folder / "ImageSets" / "Main" / "train.txt").write_text("\n")
    with pytest.raises(DataError, match=r"train\.txt lists no images"):
        voc_folder.read()
    (voc_folder.folder / "ImageSets" / "Main" / "train.txt").unlink()
    with pytest.raises(DataError, match=r"train\.txt cannot be read \(No such file or directory\): it"):
        VocDataModule(voc_folder.folder)


def test_another_size_than_the_image(voc_folder):
    voc_folder.annotate("a", SIZE.replace("100", "50").replace(">50</height", ">100</height"))
    with pytest.raises(DataError, match=r"a\.jpg is 100x50 pixels, but .*a\.xml says 50x100"):
        voc_folder.read()


def test_without_lists_all_annotated_images_are_divided(voc_folder):
    for split in ("train", "val", "test"):
        (voc_folder.folder / "ImageSets" / "Main" / f"{split}.txt").unlink()
    with pytest.raises(
        DataError, match=r"val\.txt cannot be read .*data\.val_fraction=0\.2 divides all annotated"
    ):
        VocDataModule(voc_folder.folder)
    module = VocDataModule(voc_folder.folder, num_workers=0, batch_size=1, val_fraction=0.25)
    module.setup("fit")
    names = {s: [image.info.file_name for image in module.records[s].images] for s in ("train", "val")}
    assert sorted(names["train"] + names["val"]) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert len(names["val"]) == 1


def test_test_images_are_not_trained_on(voc_folder):
    def divided():
        module = VocDataModule(voc_folder.folder, num_workers=0, batch_size=1, val_fraction=0.5)
        module.setup("fit")
        return sorted(
            image.info.file_name for split in ("train", "val") for image in module.records[split].images
        )

    lists = voc_folder.folder / "ImageSets" / "Main"
    (lists / "train.txt").unlink()
    (lists / "val.txt").unlink()
    assert divided() == ["a.jpg", "b.jpg", "c.jpg"]
    (lists / "trainval.txt").write_text("b\nc\n")
    assert divided() == ["b.jpg", "c.jpg"]
    (lists / "trainval.txt").unlink()
    (lists / "test.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(DataError, match=r"test\.txt lists all annotated images: none is left to train on"):
        divided()
