"""Files as other tools write them: values of other types, other encodings and separators."""

import pytest
from one_object import BOX, SIDE, Coco, boxes, picture, visdrone, voc, yolo

from datamodules.formats.voc import read_voc
from datamodules.problems import DataError

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
    "tag",
    [
        "<difficult>1</difficult>",
        "<difficult>True</difficult>",
        "<ignore>1</ignore>",
        "<iscrowd>1</iscrowd>",
    ],
)
def test_voc_objects_that_are_difficult(tmp_path, tag):
    assert boxes(voc(tmp_path, tag)) == ([], [BOX])


@pytest.mark.parametrize(
    "sides",
    [
        "<width>0</width><height>0</height>",
        "<width/><height/>",
        "<width>64.0</width><height> 64 </height>",
        "<width>unknown</width><height>None</height>",
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
        {"encoding": "utf-16", "head": '<?xml version="1.0" encoding="utf-16"?>'},
        {"encoding": "latin-1", "head": '<?xml version="1.0" encoding="ISO-8859-1"?>'},
        {"encoding": "cp1252", "head": "\n<?xml version='1.0' encoding = 'windows-1252' standalone='yes'?>"},
        {"encoding": "gbk", "head": '<?xml version="1.0" encoding="GBK"?>'},
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
        {"row": "0 0.234375 0.25 0.3125 0.3125 0.1 0.1", "more": "kpt_shape: '[1, 2]'\n"},
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
        ({"row": "0 0.3 0.3 0.2 0.2 0.1 0.1 1"}, "7 numbers after the class, or is .* without kpt_shape"),
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
        {"row": "5,6,20,20,1,4,0,0,,"},
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
        ("1,7,5,6,20,20,1,4,0,0", "it has 10 columns"),  # of a video
        ("nan,6,20,20,1,4,0,0", "x is 'nan', not a number"),
    ],
)
def test_visdrone_rows_with_two_readings(tmp_path, row, reason):
    with pytest.raises(DataError, match=rf"line 1 is malformed \({reason}"):
        visdrone(tmp_path, row=row)
