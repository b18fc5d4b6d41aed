"""The doctor on data sets with every fault planted once, on a sound one, and its advice in a training."""

import csv
import json
import re
import warnings
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from full_disk import full_disk
from PIL import Image
from tiny import TINY_MODEL

import train
from datamodules.records import Record
from pinpoint.doctor.__main__ import main
from pinpoint.doctor.diagnosis import Diagnosis
from pinpoint.doctor.findings import KINDS, Finding
from pinpoint.doctor.pixels import read_pixels, unusual_modes
from pinpoint.doctor.report import write_report

CUSTOM = Path(__file__).resolve().parents[3] / "configs" / "custom.yaml"
HEIGHT, WIDTH = 96, 128


def picture(seed):
    """Grey blobs, as unlike any other picture as two places are."""
    rng = np.random.default_rng(seed)
    layers = [
        cv2.resize(rng.normal(size=(n, n)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        for n in (5, 9, 17)
    ]
    image = sum(layers)
    return np.repeat(
        ((image - image.min()) / np.ptp(image) * 200 + 20).astype(np.uint8)[..., None], 3, axis=2
    )


class Split:
    """Images and COCO annotations of one split."""

    def __init__(self, root, name, seeds, categories=("car", "ship")):
        self.folder, self.json = root / name, root / f"{name}.json"
        self.folder.mkdir()
        names = [{"id": i, "name": category} for i, category in enumerate(categories, start=1)]
        self.data = {"categories": names, "images": [], "annotations": []}
        for seed in seeds:
            self.add(f"{seed}.png", [(10, 10, 20, 12)])
            Image.fromarray(picture(seed)).save(self.folder / f"{seed}.png")

    def add(self, name, boxes=((10, 10, 20, 12),), category=1, size=(HEIGHT, WIDTH)):
        """Rows of an image; returns the path of its file, for the caller to write, and its id."""
        id_ = len(self.data["images"]) + 1
        self.data["images"].append({"id": id_, "file_name": name, "height": size[0], "width": size[1]})
        for box in boxes:
            self.annotate(id_, box, category)
        return self.folder / name

    def annotate(self, image_id, box, category=1):
        """A row; returns its place in messages."""
        rows = self.data["annotations"]
        rows.append({"id": len(rows), "image_id": image_id, "category_id": category, "bbox": list(box)})
        return f"{self.json}: annotations[{len(rows) - 1}]"

    def save(self):
        self.json.write_text(json.dumps(self.data))


def options(train_split, val_split, *more):
    train_split.save()
    val_split.save()
    return [
        f"--config={CUSTOM}",
        f"--data.train_images={train_split.folder}",
        f"--data.train_annotations={train_split.json}",
        f"--data.val_images={val_split.folder}",
        f"--data.val_annotations={val_split.json}",
        f"--data.image_size=[{HEIGHT},{WIDTH}]",
        *more,
    ]


def found(folder):
    with (folder / "findings.csv").open(encoding="utf-8") as file:
        return [(row["kind"], row["split"], row["message"]) for row in csv.DictReader(file)]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the default output folder is relative


def test_every_planted_fault_is_found_once_and_nothing_else(tmp_path, capsys):
    a = Split(tmp_path, "train", range(8))
    b = Split(tmp_path, "val", range(100, 104), categories=("car", "ship", "plane", "Ship"))
    planted = []  # (kind, split, what its message must say)

    def plant(kind, split, *parts):
        planted.append((kind, split, [str(part) for part in parts]))

    path = a.add("words.jpg")
    path.write_text("this is no image")
    plant("unusable", "train", path, "not a readable image")

    path = a.add("short.jpg")
    Image.fromarray(picture(20)).save(path)
    path.write_bytes(path.read_bytes()[:-900])
    plant("unusable", "train", path, "truncated")

    path = a.add("damaged.png")  # sound head and end
    Image.fromarray(picture(21)).save(path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    plant("unreadable", "train", path, "broken data stream")

    path, exif = a.add("turned.jpg"), Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(picture(24)).save(path, exif=exif)
    plant("turned", "train", path, "EXIF orientation 3")

    path = a.add("hole.jpg")  # sound head and end
    Image.fromarray(picture(23)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[:1200] + bytes(300) + data[1500:])
    plant("damaged", "train", path, "Corrupt JPEG data")

    path = a.add("small.png", size=(HEIGHT + 32, WIDTH))
    Image.fromarray(picture(22)).save(path)
    plant("unusable", "train", path, f"{WIDTH}x{HEIGHT}", f"{WIDTH}x{HEIGHT + 32}")

    plant("unusable", "train", a.add("absent.png"), "does not exist")

    for k, (mode, text) in enumerate(
        [("RGBA", "transparency"), ("CMYK", "CMYK"), ("L", "grey"), ("I;16", "16 bits")]
    ):
        path = a.add(f"{mode[0]}.{'jpg' if mode == 'CMYK' else 'png'}")
        image = Image.fromarray(picture(30 + k))
        if mode == "I;16":
            image = Image.fromarray(picture(30 + k)[..., 0].astype(np.uint16) << 8)
        elif mode == "RGBA":
            image.putalpha(200)
        image.convert(mode).save(path)
        plant("mode", "train", path, text)

    plant("outside", "train", a.annotate(1, (200, 10, 9, 9)), "128x96")
    plant("no-size", "train", a.annotate(2, (40, 40, 0, 9)))
    plant("no-size", "train", a.annotate(3, (60, 60, -8, 9)), "width -8")
    plant("cut", "train", a.annotate(4, (120, 50, 20, 20)), "12 px")  # 120 + 20 - 128
    plant("tiny", "train", a.annotate(5, (70, 70, 1, 2)), "1.41 px")  # the root of 2
    plant("duplicate", "train", a.annotate(6, (10, 10, 20, 12)), "annotations[5]")
    a.annotate(7, (10, 10, 20, 12), category=2)  # another class, so another object
    plant("unusable", "train", a.annotate(8, (float("nan"), 1, 9, 9)))
    Image.fromarray(picture(40)).save(a.add("category.png", []))
    plant("unusable", "train", a.annotate(len(a.data["images"]), (9, 9, 9, 9), category=99), "99")
    plant("unusable", "train", a.annotate(999, (9, 9, 9, 9)), "999")

    Image.fromarray(picture(41)).save(a.folder / "unnamed.png")
    plant("orphan", "train", a.folder / "unnamed.png")
    path = a.add("empty.png", [])
    Image.fromarray(picture(42)).save(path)
    plant("empty", "train", path)

    path = a.add("again.jpg")
    Image.fromarray(picture(2)).save(path, quality=60)
    plant("repeat", "train", path, a.folder / "2.png")
    path = b.add("leaked.jpg")
    Image.fromarray((picture(3)[3:-3, 4:-4] * 0.9 + 15).astype(np.uint8)).resize((WIDTH, HEIGHT)).save(path)
    plant("leak", "val", path, a.folder / "3.png")

    c = Split(tmp_path, "test", [])
    for split, kind, name in ((a, "leak", "5.png"), (b, "chosen-on", "101.png")):
        path = split.folder / name
        c.add(str(path))
        plant(kind, "test", path, "is an image of")
    path = a.folder / "6.png"
    b.add(str(path))
    plant("leak", "val", path, "is an image of train")
    c.save()
    test = [f"--data.test_images={c.folder}", f"--data.test_annotations={c.json}"]

    b.annotate(1, (60, 60, 12, 12), category=3)
    plant("unseen", "val", "'plane'")
    plant("case", "train", "'ship' and 'Ship'")
    plant("rare", "train", "'Ship'")
    for k in range(60):  # cars of other places and sizes, that there be 50 times as many of them as ships
        a.annotate(1, (k, 40 + 10 * (k % 2), 6, 6 + k % 3))
    plant("rare", "train", "'ship'")

    assert main(options(a, b, "--output", "out", *test)) == 1
    rest = found(Path("out"))
    for kind, split, parts in planted:
        matching = [row for row in rest if row[:2] == (kind, split) and all(part in row[2] for part in parts)]
        assert len(matching) == 1, (kind, parts, matching)
        rest.remove(matching[0])
    assert rest == []
    kinds = {kind for kind, _, _ in planted}
    assert kinds == set(KINDS) - {"reading"}  # COCO's reader finds nothing more; others below
    report, console = Path("out/report.md").read_text(), capsys.readouterr().out
    for kind in kinds:
        assert KINDS[kind].title in report
        assert KINDS[kind].title in console


@pytest.mark.slow
def test_a_sound_data_set(tmp_path, capsys):
    given = options(Split(tmp_path, "train", range(6)), Split(tmp_path, "val", range(9, 12)))
    assert main(given) == 0
    (folder,) = Path("runs/doctor").iterdir()  # named after recipe and data
    assert [(kind, message.partition(":")[0]) for kind, _, message in found(folder)] == [
        ("rare", "class 'ship'")
    ]
    assert f"0 errors, 1 warnings; the report is {folder / 'report.md'}" in capsys.readouterr().out
    assert sorted(path.name for path in folder.iterdir()) == [
        "advice.yaml",
        "findings.csv",
        "overview.png",
        "report.md",
    ]
    (folder / "groups.csv").write_text("file,group\n")  # of duplicates that are no longer there
    main(given)
    assert not (folder / "groups.csv").exists()


@pytest.mark.slow
def test_train_takes_the_advice(tmp_path):
    a, b = Split(tmp_path, "train", range(6)), Split(tmp_path, "val", range(9, 12))
    for image in range(1, 7):
        a.annotate(image, (60, 60, 7, 7), category=2)
    assert main(options(a, b, "--output", "out")) == 0
    advice = yaml.safe_load(Path("out/advice.yaml").read_text())
    assert advice["model"]["network"]["strides"][0] == 4  # half of the objects have 7 px
    data = [option for option in options(a, b) if "config" not in option and "image_size" not in option]
    recipe_and_advice = [f"--config={CUSTOM}", "--config=out/advice.yaml"]
    train.main(
        [*recipe_and_advice, *data, *TINY_MODEL, "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"]
    )


def test_advice_has_a_reason_for_every_option(tmp_path):
    main(options(Split(tmp_path, "train", range(6)), Split(tmp_path, "val", range(9, 12)), "--output", "out"))
    lines = Path("out/advice.yaml").read_text().splitlines()
    for before, line in pairwise(lines):
        if re.search(r": \S", line) and "#" not in line:
            assert before.lstrip().startswith("#"), line


def test_ignore_boxes_may_be_as_they_are(tmp_path):
    a = Split(tmp_path, "train", range(6), categories=("car", "dontcare"))
    b = Split(tmp_path, "val", range(9, 12), categories=("car", "dontcare"))
    for box in ((90, 60, 60, 60), (90, 60, 60, 60), (5, 5, 1, 1)):  # reaching out, twice, tiny
        a.annotate(1, box, category=2)
    assert main(options(a, b, "--output=out", "--data.ignore_categories=[dontcare]")) == 0
    assert found(Path("out")) == []


def test_annotations_only_opens_no_image(tmp_path):
    a, b = Split(tmp_path, "train", range(6)), Split(tmp_path, "val", range(3))  # each shows what train shows
    assert main(options(a, b, "--output", "out", "--annotations-only")) == 0
    assert {kind for kind, _, _ in found(Path("out"))} == {"rare"}


def test_sixteen_bits_are_told_without_opening_an_image(tmp_path):
    a, b = Split(tmp_path, "train", range(6)), Split(tmp_path, "val", range(9, 12))
    Image.fromarray(picture(0)[..., 0].astype(np.uint16) << 8).save(a.folder / "0.png")
    assert main(options(a, b, "--output", "out", "--annotations-only")) == 0
    (row,) = [row for row in found(Path("out")) if row[0] == "reading"]
    assert row[2].startswith("1 of 6 images hold 16 bits a pixel")
    assert main(options(a, b, "--output", "out")) == 0
    (row,) = [row for row in found(Path("out")) if "16 bits" in row[2]]
    assert row[:2] == ("mode", "train")  # by name, and once


def test_a_split_that_cannot_be_read_is_an_error_of_its_own(tmp_path):
    a, b = Split(tmp_path, "train", range(6)), Split(tmp_path, "val", range(9, 12))
    arguments = options(a, b, "--output", "out")
    a.json.write_text("{")
    assert main(arguments) == 1
    assert [kind for kind, _, _ in found(Path("out"))] == ["unusable"]
    assert not Path("out/advice.yaml").exists()


def test_label_files_without_image(tmp_path):
    root = tmp_path / "visdrone"
    for split, seeds in (("train", range(4)), ("val", range(9, 12))):
        images, labels = (root / f"VisDrone2019-DET-{split}" / name for name in ("images", "annotations"))
        images.mkdir(parents=True)
        labels.mkdir()
        for seed in seeds:
            Image.fromarray(picture(seed)).save(images / f"{seed}.jpg")
            rows = [f"{10 * k},10,9,9,1,{k},0,0" for k in range(1, 11)]
            (labels / f"{seed}.txt").write_text("\n".join(rows))
    (labels / "lost.txt").write_text("")
    (labels / "9.txt").write_text("\n".join([*rows, "10,10,9,9,1,1,0,0", "0,0,0,5,1,1,0,0,"]))
    config = CUSTOM.with_name("visdrone_hybrid.yaml")
    arguments = [f"--config={config}", f"--data.root={root}", "--data.image_size=[96,128]", "--output=out"]
    assert main([*arguments, "--data.download=false"]) == 1
    assert found(Path("out")) == [
        ("no-size", "val", f"{labels / '9.txt'}, line 12: box x 0, y 0, width 0, height 5 has no size"),
        ("duplicate", "val", f"{labels / '9.txt'}, line 11: the same class and box as line 1"),
        ("orphan", "val", f"{labels / 'lost.txt'}: annotations without an image"),
    ]


def test_yolo(tmp_path):
    root = tmp_path / "yolo"
    for split, seeds in (("train", range(4)), ("val", range(9, 12))):
        images, labels = root / "images" / split, root / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for seed in seeds:
            Image.fromarray(picture(seed)).save(images / f"{seed}.jpg")
            (labels / f"{seed}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
        (labels / "classes.txt").write_text("car")  # no labels, but what tools write beside them
    (labels / "lost.txt").write_text("")
    (root / "data.yaml").write_text("{train: images/train, val: images/val, names: [car]}")
    config = CUSTOM.with_name("yolo.yaml")
    assert main([f"--config={config}", f"--data.yaml={root / 'data.yaml'}", "--output=out"]) == 0
    orphan = ("orphan", "val", f"{labels / 'lost.txt'}: annotations without an image")
    assert found(Path("out")) == [orphan]

    train = root / "images" / "train"
    (train / "phone.heic").touch()
    Image.fromarray(picture(20)).save(train / "0.png")
    Image.fromarray(picture(21)).save(train / "unlabelled.jpg")
    (root / "labels" / "train" / "3.txt").write_text("0 0.5 0.5 0 0.2\n0 0.5 0.5 0.2 0.2\n")
    assert main([f"--config={config}", f"--data.yaml={root / 'data.yaml'}", "--output=out"]) == 1
    rows = [row for row in found(Path("out")) if row != orphan]
    assert [(kind, split) for kind, split, _ in rows] == [
        ("no-size", "train"),  # and no word of the reader's warning that sums it up
        *(("reading", "train"),) * 3,
        ("empty", "train"),
    ]
    for (_, _, message), said in zip(
        rows[1:],
        (
            f"{train}: files that are no images by their ending are left out (1 .heic)",
            f"1 of 6 images have no label file, such as {root / 'labels' / 'train' / 'unlabelled.txt'}",
            f"1 label files are of several images each, such as {train / '0.jpg'} and {train / '0.png'}",
            f"{train / 'unlabelled.jpg'}: no objects",
        ),
        strict=True,
    ):
        assert said in message


def test_what_cannot_be_opened_is_told_and_filters_of_warnings_stay(tmp_path):
    images = []
    for k in range(40):
        Image.fromarray(picture(k)).save(tmp_path / f"{k}.jpg")
        images.append(Record(str(tmp_path / f"{k}.jpg"), None, None))
    images.append(Record(str(tmp_path / "gone.jpg"), None, None))
    filters = list(warnings.filters)
    for _ in range(5):
        pixels = read_pixels(images)
    assert warnings.filters == filters
    assert [image.error != "" for image in pixels] == [False] * 40 + [True]
    assert unusual_modes(pixels) == [""] * 41


def test_no_objects_in_training(tmp_path):
    categories = ("objects", "ship")
    a, b = (
        Split(tmp_path, name, seeds, categories) for name, seeds in (("a", range(4)), ("b", range(9, 12)))
    )
    a.data["annotations"] = []
    assert main(options(a, b, "--output=out")) == 1  # a class of val is not in train
    report = Path("out/report.md").read_text("utf-8")
    rows = [line.split() for line in report.splitlines()]
    assert rows.count(["|", "objects", "|", "0", "|", "3", "|"]) == 2  # all, and those of that class
    assert "Advice" not in report
    assert not Path("out/advice.yaml").exists()


def test_unknown_options_are_refused():
    with pytest.raises(ValueError, match=r"there is no option --data\.nope"):
        main([f"--config={CUSTOM}", "--data.nope=1"])


def test_a_full_disk_leaves_the_report_before(tmp_path):
    def write(message):
        result = Diagnosis(["a"], (96, 128), findings=[Finding("empty", "train", "", message)])
        result.groups = [["a.jpg", message]]
        write_report(result, tmp_path, "data", [], "doctor", [])

    write("first")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert before.keys() == {"findings.csv", "groups.csv", "report.md"}
    with pytest.raises(OSError, match=r"findings\.csv'"), full_disk():
        write("second")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
