"""Files as other tools write them: values of other types, other encodings, separators and endings."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from datamodules.formats.coco import read_coco
from datamodules.formats.visdrone import read_visdrone
from datamodules.formats.voc import read_voc
from datamodules.formats.yolo import read_description, read_yolo
from datamodules.problems import DataError, Problems

SIDE = 64
BOX = [5, 6, 25, 26]
"""The one object of each data set below, xyxy pixels."""


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (SIDE, SIDE)).save(path, "PNG" if path.suffix == ".png" else "JPEG")


class Coco:
    def __init__(self, folder):
        self.folder = folder
        picture(folder / "img" / "0.png")
        self.data = {
            "images": [{"id": 1, "file_name": "0.png", "width": SIDE, "height": SIDE}],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 6, 20, 20], "iscrowd": 0}],
            "categories": [{"id": 1, "name": "car"}],
        }

    def read(self, encoding="utf-8", **more):
        (self.folder / "a.json").write_bytes(json.dumps(self.data).encode(encoding))
        return read_coco(self.folder / "a.json", self.folder / "img", **more)


def voc(folder, entry="", size="", encoding="utf-8", names="0", suffix=".xml", image="0.jpg", head=""):
    picture(folder / "JPEGImages" / image)
    for part in ("Annotations", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    (folder / "ImageSets" / "Main" / "train.txt").write_text(names)
    corners = "<bndbox><xmin>6.0</xmin><ymin> 7 </ymin><xmax>25</xmax><ymax>2.6e1</ymax></bndbox>"
    text = f"{head}<annotation>{size}<object><name>café</name>{entry}{corners}</object></annotation>"
    (folder / "Annotations" / f"0{suffix}").write_bytes(text.encode(encoding))
    return read_voc(folder, "train", class_names=["café"])


def yolo(
    folder, row="0 0.234375 0.25 0.3125 0.3125", encoding="utf-8", label="0.txt", image="0.png", more=""
):
    picture(folder / "images" / image)
    (folder / "labels").mkdir()
    (folder / "labels" / label).write_bytes(row.encode(encoding))
    (folder / "data.yaml").write_text(f"train: images\nval: images\nnames: [car]\n{more}")
    return read_yolo(read_description(folder / "data.yaml"), "train")


def visdrone(folder, row="5,6,20,20,1,4,0,0", encoding="utf-8", label="0.txt", image="0.jpg"):
    picture(folder / "images" / image)
    (folder / "annotations").mkdir()
    (folder / "annotations" / label).write_bytes(row.encode(encoding))
    return read_visdrone(folder)


def boxes(records):
    """Objects and ignore boxes of the only image."""
    (image,) = records.images
    return image.annotations.boxes.tolist(), image.annotations.ignore_boxes.tolist()


# ------------------------------------------------------------------------------------------------- COCO


@pytest.mark.parametrize(
    ("part", "values"),
    [
        ("images", {"id": "1"}),
        ("images", {"width": "64", "height": "64.0"}),
        ("images", {"width": None}),
        ("images", {"width": 0, "height": 0}),
        ("annotations", {"image_id": "1"}),
        ("annotations", {"image_id": 1.0}),
        ("annotations", {"category_id": " 1 "}),
        ("annotations", {"bbox": ["5", "6.0", 20, "2e1"]}),
        ("annotations", {"bbox": "[5, 6, 20, 20]"}),
        ("annotations", {"iscrowd": "0"}),
        ("annotations", {"iscrowd": "false", "ignore": None}),
        ("annotations", {"iscrowd": None, "area": None}),
        ("annotations", {"area": ""}),
        ("categories", {"id": "1"}),
    ],
)
def test_coco_values_of_other_types(tmp_path, part, values):
    coco = Coco(tmp_path)
    coco.data[part][0] |= values
    records = coco.read()
    assert boxes(records) == ([BOX], [])
    assert records.images[0].annotations.areas.tolist() == [400]
    assert records.images[0].info.size == (SIDE, SIDE)


@pytest.mark.parametrize(
    "values", [{"iscrowd": "1"}, {"iscrowd": True}, {"ignore": 1}, {"difficult": "true"}]
)
def test_coco_flags_that_say_not_to_score(tmp_path, values):
    coco = Coco(tmp_path)
    coco.data["annotations"][0] |= values
    assert boxes(coco.read()) == ([], [BOX])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"iscrowd": "perhaps"}, "iscrowd is 'perhaps': it must be 0 or 1"),
        ({"iscrowd": 2}, "iscrowd is 2"),
        ({"iscrowd": []}, r"iscrowd is \[\]"),
        ({"area": -1}, "area is -1"),
        ({"area": True}, "area is True, not a number"),
        ({"category_id": True}, "category_id is True"),
        ({"image_id": 1.5}, "image_id is 1.5, not a whole number"),
        ({"bbox": None}, "bbox is None, not 4 numbers"),
        ({"bbox": [5, 6, None, 20]}, "bbox's width is None"),
    ],
)
def test_coco_values_with_two_readings(tmp_path, values, reason):
    coco = Coco(tmp_path)
    coco.data["annotations"][0] |= values
    with pytest.raises(DataError, match=rf"annotations\[0\] is malformed \({reason}"):
        coco.read()


def test_coco_ids_that_are_texts_become_positions(tmp_path):
    coco = Coco(tmp_path)
    coco.data["images"][0]["id"] = coco.data["annotations"][0]["image_id"] = "img-7f"
    coco.data["categories"][0]["id"] = coco.data["annotations"][0]["category_id"] = "c"
    records = coco.read()
    assert boxes(records) == ([BOX], [])
    assert (records.images[0].info.image_id, records.category_ids) == (1, [1])
    coco.data["annotations"][0]["image_id"] = "img-8"
    with pytest.raises(DataError, match="image_id 'img-8' is not among the ids"):
        coco.read()


def test_coco_parent_category_of_the_same_name(tmp_path):
    coco = Coco(tmp_path)
    coco.data["categories"].insert(0, {"id": 0, "name": "car"})
    records = coco.read()
    assert (records.class_names, records.category_ids) == (["car"], [1])


def test_coco_names_with_the_separators_of_windows(tmp_path):
    coco = Coco(tmp_path)
    picture(tmp_path / "img" / "a" / "1.png")
    coco.data["images"][0]["file_name"] = "a\\1.png"
    assert coco.read().images[0].path == str(tmp_path / "img" / "a" / "1.png")


# -------------------------------------------------------------------------------------------------- VOC


@pytest.mark.parametrize("value", ["", "0", "0.0", "False", "Unspecified", " no "])
def test_voc_objects_that_are_not_difficult(tmp_path, value):
    assert boxes(voc(tmp_path, f"<truncated>Unspecified</truncated><difficult>{value}</difficult>")) == (
        [BOX],
        [],
    )


@pytest.mark.parametrize(
    "tag", ["<difficult>1</difficult>", "<difficult>True</difficult>", "<ignore>1</ignore>"]
)
def test_voc_objects_that_are_difficult(tmp_path, tag):
    assert boxes(voc(tmp_path, tag)) == ([], [BOX])


@pytest.mark.parametrize(
    "sides",
    [
        "<width>0</width><height>0</height>",
        "<width/><height/>",
        "<width>64.0</width><height> 64 </height>",
        "",
    ],
)
def test_voc_sizes(tmp_path, sides):
    assert boxes(voc(tmp_path, size=f"<size>{sides}</size>")) == ([BOX], [])


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "utf-16"},
        {"encoding": "utf-8-sig"},
        {"encoding": "latin-1", "head": '<?xml version="1.0" encoding="ISO-8859-1"?>'},
        {"names": "\ufeff0\r\n\r\n"},
        {"names": "0.jpg"},
        {"suffix": ".XML", "image": "0.JPG"},
        {"image": "0.jfif"},
    ],
)
def test_voc_files(tmp_path, options):
    assert boxes(voc(tmp_path, **options)) == ([BOX], [])


def test_two_images_of_one_name_are_a_problem(tmp_path):
    voc(tmp_path)
    picture(tmp_path / "JPEGImages" / "0.png")
    with pytest.raises(DataError, match=r"0\.jpg and .*0\.png have one file of annotations"):
        read_voc(tmp_path, "train", class_names=["café"])


# ------------------------------------------------------------------------------------- YOLO and VisDrone


@pytest.mark.parametrize(
    "options",
    [
        {"row": "0.0\t0.234375\t.25\t0.3125 3.125e-1\r\n\r\n"},
        {"row": "0,0.234375,0.25,0.3125,0.3125,"},
        {"encoding": "utf-8-sig"},
        {"encoding": "utf-16"},
        {"label": "0.TXT", "image": "0.JPG"},
        {"image": "0.jfif"},
        {"row": "0 0.234375 0.25 0.3125 0.3125 0.1 0.1 2 0.9 0.9 0", "more": "kpt_shape: [2, 3]\n"},
        {"row": "0 0.234375 0.25 0.3125 0.3125 0.1 0.1", "more": "kpt_shape: [1, 2]\n"},
        {"more": "kpt_shape: ['17', 3]\n"},  # a row without key points
        {"more": "nc: '1'\n"},
    ],
)
def test_yolo_files(tmp_path, options):
    assert boxes(yolo(tmp_path, **options)) == ([BOX], [])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"row": "0 0.3 0.3 0.2 0.2 0.9"}, "5 numbers after the class: without a confidence"),
        ({"row": "0 0.3 0.3 0.2 0.2 0.1 0.1 2 0.2 0.2 2"}, "not all in 0..1: .*without kpt_shape"),
        (
            {"row": "0 0.3 0.3 0.2 0.2 0.1", "more": "kpt_shape: [1, 2]\n"},
            "it has 5 numbers .*, not 4 and 2 of",
        ),
        ({"more": "kpt_shape: 17\n"}, r"data\.yaml: kpt_shape is 17: it must be"),
        ({"more": "kpt_shape: [17, 4]\n"}, "kpt_shape is"),
        ({"more": "nc: 2\n"}, r"data\.yaml: nc is 2, but names has 1"),
    ],
)
def test_yolo_files_with_two_readings(tmp_path, options, reason):
    with pytest.raises(DataError, match=reason):
        yolo(tmp_path, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"row": "5.0, 6, 20.0, 20, 1, 4.0, 0, 0,\r\n"},
        {"row": "5 6 20 20 1 4 0 0"},
        {"row": "\ufeff5,6,20,20,1,4,0,0"},
        {"encoding": "utf-16"},
        {"label": "0.TXT", "image": "0.JPG"},
        {"image": "0.png"},
    ],
)
def test_visdrone_files(tmp_path, options):
    assert boxes(visdrone(tmp_path, **options)) == ([BOX], [])


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("5,6,20,20,,4,0,0", "score is '', not a number"),  # not an ignore region by accident
        ("5,6,20,20,0.9,4,0,0", "score is '0.9', not a whole number"),  # a detection
        ("5,6,20,20,2,4,0,0", "score is 2, not 0 or 1"),
        ("5,6,20,20,1", "it has 5 columns"),
        ("nan,6,20,20,1,4,0,0", "x is 'nan', not a number"),
    ],
)
def test_visdrone_rows_with_two_readings(tmp_path, row, reason):
    with pytest.raises(DataError, match=rf"line 1 is malformed \({reason}"):
        visdrone(tmp_path, row=row)


# ---------------------------------------------------------------------------------- names, turns, dangers


@pytest.mark.parametrize(
    "name",
    [
        b"caf\xe9.png",
        b" a.png",
        b"a\nb.png",
        b"q'\".png",
        b"#h%20.png",
        "\U0001f600.png".encode(),
        b"$x$.png",
    ],
)
def test_names_of_any_bytes(tmp_path, name):
    name = os.fsdecode(name)
    records = yolo(tmp_path, image=name, label=name.replace("png", "txt"))
    assert boxes(records) == ([BOX], [])
    assert records.images[0].info.file_name.isprintable()
    assert os.path.exists(records.images[0].path)


def test_hidden_files_and_other_endings(tmp_path):
    visdrone(tmp_path)
    for name in ("._0.jpg", "1.heic", "notes.txt"):
        (tmp_path / "images" / name).write_bytes(b"\0")
    with pytest.warns(UserWarning, match=r"no images by their ending are left out \(1 \.heic\)"):
        assert len(read_visdrone(tmp_path).images) == 1


def test_copies_that_other_trainers_keep_beside_images_are_no_images(tmp_path):
    yolo(tmp_path)
    np.save(tmp_path / "images" / "0.npy", np.zeros((SIDE, SIDE, 3), np.uint8))
    assert len(read_yolo(read_description(tmp_path / "data.yaml"), "train").images) == 1


def test_turned_images_in_every_format(tmp_path):
    """EXIF orientation 6: stored 64 x 48 (w x h), displayed 48 x 64."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for part in ("coco/img", "voc/JPEGImages", "yolo/images", "visdrone/images"):
        (tmp_path / part).mkdir(parents=True)
    coco = Coco(tmp_path / "coco")
    coco.data["images"][0] |= {"file_name": "0.jpg", "width": 48}
    Image.new("RGB", (64, 48)).save(tmp_path / "coco" / "img" / "0.jpg", exif=exif)
    assert boxes(coco.read()) == ([BOX], [])
    # By the stored size, the annotations are in the stored frame: x 5..25, y 6..26 of 64 x 48 is, turned
    # clockwise, x 48 - 26..48 - 6, y 5..25.
    coco.data["images"][0] |= {"width": 64, "height": 48}
    assert boxes(coco.read()) == ([[22, 5, 42, 25]], [])
    assert coco.read().images[0].info.size == (64, 48)

    visdrone_folder = tmp_path / "visdrone"
    (visdrone_folder / "annotations").mkdir()
    (visdrone_folder / "annotations" / "0.txt").write_text("5,6,20,20,1,4,0,0")
    Image.new("RGB", (64, 48)).save(visdrone_folder / "images" / "0.jpg", exif=exif)
    image = read_visdrone(visdrone_folder).images[0]
    assert (image.annotations.boxes.tolist(), image.info.size, image.turn) == ([BOX], (64, 48), 6)

    sizes = {"": [BOX], "<width>48</width><height>64</height>": [BOX]}
    for k, (sides, expected) in enumerate(
        (sizes | {"<width>64</width><height>48</height>": [[22, 5, 42, 25]]}).items()
    ):
        folder = tmp_path / f"voc{k}"
        (folder / "JPEGImages").mkdir(parents=True)
        Image.new("RGB", (64, 48)).save(folder / "JPEGImages" / "0.jpg", exif=exif)
        image = voc(folder, size=f"<size>{sides}</size>", image="other.jpg").images[0]
        assert image.annotations.boxes.tolist() == expected


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_circles_of_links(tmp_path):
    yolo(tmp_path)
    os.symlink(tmp_path / "images", tmp_path / "images" / "again")
    assert len(read_yolo(read_description(tmp_path / "data.yaml"), "train").images) == 1
    os.mkfifo(tmp_path / "images" / "pipe.jpg")
    with pytest.raises(DataError, match=r"pipe\.jpg is not a readable image"):
        read_yolo(read_description(tmp_path / "data.yaml"), "train")
    for name in ("data.yaml", "list.json"):
        (tmp_path / name).unlink(missing_ok=True)
        os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=r"data\.yaml cannot be read \(.*is not a file"):
        read_description(tmp_path / "data.yaml")
    with pytest.raises(DataError, match=r"list\.json cannot be read \(.*is not a file"):
        read_coco(tmp_path / "list.json", tmp_path)


def test_small_files_that_stand_for_endless_ones(tmp_path):
    rows = ["a0: &a0 [x, x]", *(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]" for k in range(1, 40)), "names: *a39"]
    (tmp_path / "data.yaml").write_text("\n".join(rows))
    with pytest.raises(DataError, match="more than 16 references"):
        read_description(tmp_path / "data.yaml")
    (tmp_path / "deep.json").write_text("[" * 10**5)
    with pytest.raises(DataError, match="is not valid JSON"):
        read_coco(tmp_path / "deep.json", tmp_path)


# --------------------------------------------------------------------------------------- nearly all gone


def test_dropping_nearly_all_is_an_error(tmp_path):
    coco = Coco(tmp_path)
    coco.data["annotations"] = [
        {"image_id": "x1", "category_id": 1, "bbox": [5, 6, 20, 20]} for _ in range(20)
    ]
    with pytest.raises(
        DataError, match=r"20 of 20 rows are malformed or of images with a problem; the first of"
    ):
        coco.read(problems=Problems("skip"))
    coco.data["annotations"] = [{"image_id": 1, "category_id": 1, "bbox": [5, 6, 0, 20]} for _ in range(20)]
    coco.data["annotations"] += [{"image_id": 1, "category_id": 1, "bbox": [5, 6, 20, 20]}]
    with pytest.raises(
        DataError, match=r"20 of 21 boxes without size or outside their image: are they written"
    ):
        coco.read()


def test_dropping_nearly_all_images_is_an_error(tmp_path):
    coco = Coco(tmp_path)
    coco.data["images"] += [{"id": k, "file_name": f"{k}.png"} for k in range(2, 22)]
    with pytest.raises(
        DataError, match=r"95% of the images have a problem, so hardly any is left; the first of"
    ):
        coco.read(problems=Problems("skip"))
    del coco.data["images"][10:]  # 9 of 10: a user who says skip may have that
    assert len(coco.read(problems=Problems("skip")).images) == 1
