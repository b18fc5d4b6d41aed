"""Random edits of annotation files: each loads, or gives one message with file and row; nothing else."""

import json
import random
import re
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest

from datamodules.modules import CocoDataModule, VisDroneDataModule, VocDataModule, YoloDataModule
from datamodules.problems import DataError

EDITS = 70
"""Edited files of each of the five formats, each read twice."""

STEMS = "abc"
HEIGHT, WIDTH = 50, 100

ODD = [
    *(
        "NaN",
        "Infinity",
        "-Infinity",
        "1e309",
        "-1",
        "0",
        "-0.0",
        "0.5",
        "1e-320",
        "9" * 400,
        str(2**63),
        "1_0",
    ),
    *("", "null", "true", "~", "[]", "{}", '"text"', "[[[1]]]", "[" * 2000, "1,1", "0x10", "2001-99-99"),
    *(
        "\x00",
        "\ufeff",
        "é",
        "\u0661",
        "\u2028",
        "&a;",
        "<a>",
        "*a",
        "&a [*a]",
        "!!python/object:os.system",
    ),
]
"""What replaces a number or a word."""


def write_images(folder: Path, suffix: str = "png") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in STEMS:
        cv2.imwrite(str(folder / f"{stem}.{suffix}"), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))


def coco(root: Path):
    """A COCO data set: the file to edit, and a function that makes its data module."""
    write_images(root / "images")
    entry = {"iscrowd": 0, "area": 100.5}
    data = {
        "images": [
            {"id": i, "file_name": f"{s}.png", "height": HEIGHT, "width": WIDTH} for i, s in enumerate(STEMS)
        ],
        "annotations": [
            {"id": i, "image_id": i % 3, "category_id": 1 + i % 2, "bbox": [9.5, 8, 20, 10 + i]} | entry
            for i in range(6)
        ],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "ship"}],
    }
    file = root / "annotations.json"
    file.write_text(json.dumps(data, indent=0))
    return file, lambda **more: CocoDataModule(root / "images", file, root / "images", file, **more)


def visdrone(root: Path):
    folder = root / "VisDrone2019-DET-val"
    write_images(folder / "images", "jpg")
    (folder / "annotations").mkdir()
    for stem in STEMS:
        rows = [f"{i},2,30,{40 + i},1,{i},0,0{',' * (i % 2)}" for i in range(12)]
        (folder / "annotations" / f"{stem}.txt").write_text("\n".join(rows))
    return folder / "annotations" / "b.txt", lambda **more: VisDroneDataModule(root, **more)


def yolo(root: Path):
    write_images(root / "images" / "val")
    (root / "labels" / "val").mkdir(parents=True)
    for stem in STEMS:
        rows = ["1 0.5 0.5 0.25 0.4", "0 0.1 0.2 0.2 0.1", "1 0.1 0.2 0.3 0.2 0.2 0.6"]
        (root / "labels" / "val" / f"{stem}.txt").write_text("\n".join(rows * 2))
    text = "path: .\ntrain: images/val\nval: images/val\nnames:\n  0: car\n  1: ship\nnc: 2\n"
    (root / "data.yaml").write_text(text)
    return root / "labels" / "val" / "b.txt", lambda **more: YoloDataModule(root / "data.yaml", **more)


def yolo_description(root: Path):
    _, module = yolo(root)
    return root / "data.yaml", module


def voc(root: Path):
    write_images(root / "JPEGImages")
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main").mkdir(parents=True)
    for split in ("train", "val"):
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(STEMS))
    size = f"<size>\n<width>{WIDTH}</width>\n<height>{HEIGHT}</height>\n</size>\n"
    corners = "<bndbox>\n<xmin>5</xmin>\n<ymin>6.5</ymin>\n<xmax>40</xmax>\n<ymax>30</ymax>\n</bndbox>\n"
    entry = f"<object>\n<name>car</name>\n<difficult>0</difficult>\n{corners}</object>\n"
    for stem in STEMS:
        (root / "Annotations" / f"{stem}.xml").write_text(f"<annotation>\n{size}{entry * 3}</annotation>\n")
    return root / "Annotations" / "b.xml", lambda **more: VocDataModule(root, **more)


def edited(content: bytes, rng: random.Random) -> bytes:
    """One to three random changes of a file."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice((flip, delete, cut, swap_value, swap_value, swap_value, row, nothing))(
            content, rng
        )
    return content


def flip(content: bytes, rng: random.Random) -> bytes:
    some = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if some:
            some[rng.randrange(len(some))] = rng.randrange(256)
    return bytes(some)


def delete(content: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(content) + 1)
    return content[:start] + content[start + rng.randint(1, 30) :]


def cut(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def swap_value(content: bytes, rng: random.Random) -> bytes:
    """Another value in place of a number, a quoted text or a word."""
    found = list(re.finditer(rb'-?\d+(\.\d+)?|"[^"]*"|\w+', content))
    if not found:
        return content
    match = rng.choice(found)
    odd = rng.choice(ODD).encode()
    return content[: match.start()] + odd + content[match.end() :]


def row(content: bytes, rng: random.Random) -> bytes:
    """A line twice, not at all, or at another place."""
    lines = content.split(b"\n")
    line = lines[rng.randrange(len(lines))]
    if rng.random() < 0.5:
        lines.remove(line)
    if rng.random() < 0.7:
        lines.insert(rng.randrange(len(lines) + 1), line)
    return b"\n".join(lines)


def nothing(content: bytes, rng: random.Random) -> bytes:
    return rng.choice(
        (b"", b"\n", b"\xff\xfe", b"null", b"[]", b"{}", content.decode("latin-1").encode("utf-16"))
    )


def outcome(make, file: Path, on_error: str) -> str:
    """Read the validation split; checks what comes out, and returns "loaded" or the message."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = make(on_error=on_error)
            module.setup("validate")
    except DataError as error:
        message = str(error)
        assert file.name in message
        if "malformed" in message and "line" not in message and file.suffix != ".xml":
            assert re.search(r"(images|annotations|categories)\[\d+\]", message), message
        return message
    records = module.records["val"]
    assert 1 <= len(records.images) <= len(STEMS)
    for record in records.images:
        found, (height, width) = record.annotations, record.info.size
        assert (height, width) == (HEIGHT, WIDTH)
        boxes = np.concatenate([found.boxes, found.ignore_boxes])
        assert np.isfinite(boxes).all()
        assert np.isfinite(found.areas).all()
        inside = boxes.clip(0, (width, height, width, height))
        assert (inside[:, 2:] > inside[:, :2]).all()
        assert ((found.labels >= 0) & (found.labels < len(module.class_names))).all()
        assert ((found.ignore_labels >= -1) & (found.ignore_labels < len(module.class_names))).all()
        assert len(found.boxes) == len(found.labels) == len(found.areas)
        assert len(found.ignore_boxes) == len(found.ignore_labels)
        assert abs(record.info.image_id) < 2**63
    return "loaded"


@pytest.mark.parametrize("make_data", [coco, visdrone, yolo, yolo_description, voc])
def test_edited_files_load_or_give_one_message(tmp_path, make_data):
    file, make = make_data(tmp_path)
    content = file.read_bytes()
    outcomes: dict[str, list[str]] = {"raise": [], "skip": []}
    for k in range(EDITS):
        file.write_bytes(edited(content, random.Random(f"{make_data.__name__}/{k}")))
        for on_error, found in outcomes.items():
            found.append(outcome(make, file, on_error))
    # The edits are neither all harmless nor all fatal, and leaving out saves some of the files.
    loaded = {on_error: found.count("loaded") for on_error, found in outcomes.items()}
    assert 0 < loaded["raise"] < EDITS
    assert loaded["raise"] <= loaded["skip"]
    if make_data is not yolo_description:
        assert loaded["raise"] < loaded["skip"]
