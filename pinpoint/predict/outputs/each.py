"""Formats that have a file for each image: YOLO, VOC and VisDrone text, LabelMe."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

from datamodules.files import visible
from datamodules.formats.visdrone import CLASS_NAMES as VISDRONE
from pinpoint.predict.found import Found

Write = Callable[[Found, Sequence[str], Path], str]
"""What was found, the class names, and the file that it is for, to the text of that file."""


def yolo(found: Found, class_names: Sequence[str], path: Path) -> str:
    """One row an object, `class cx cy w h` as shares of the image; scores have no place in it."""
    height, width = found.size
    rows = []
    for label, (x, y, w, h) in zip(found.labels.tolist(), found.xywh.tolist(), strict=True):
        shares = (x + w / 2) / width, (y + h / 2) / height, w / width, h / height
        rows.append(f"{label} {' '.join(f'{share:.7f}' for share in shares)}\n")
    return "".join(rows)


def visdrone(found: Found, class_names: Sequence[str], path: Path) -> str:
    """VisDrone's result files: `x,y,w,h,score,category,-1,-1`, with their numbers for classes of their names.

    Other classes count from 1 in the model's order, if it knows any that VisDrone does not.
    """
    known = all(name in VISDRONE for name in class_names)
    numbers = [VISDRONE.index(name) + 1 if known else i for i, name in enumerate(class_names, start=1)]
    rows = zip(found.xywh.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    return "".join(
        f"{x:.3f},{y:.3f},{w:.3f},{h:.3f},{score:.6f},{numbers[label]},-1,-1\n"
        for (x, y, w, h), score, label in rows
    )


def voc(found: Found, class_names: Sequence[str], path: Path) -> str:
    """Pascal VOC's XML: pixels count from 1, the last ones are inside; `score` beside each name."""
    root = ElementTree.Element("annotation")
    image = Path(found.file_name)
    for tag, text in (("folder", image.parent.name), ("filename", image.name), ("path", found.path)):
        ElementTree.SubElement(root, tag).text = visible(text)  # XML knows no control characters
    size = ElementTree.SubElement(root, "size")
    for tag, side in (("width", found.size[1]), ("height", found.size[0]), ("depth", 3)):
        ElementTree.SubElement(size, tag).text = str(side)
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    for (x1, y1, x2, y2), score, label in rows:
        entry = ElementTree.SubElement(root, "object")
        values = {"name": voc_name(class_names[label]), "pose": "Unspecified", "truncated": "0"}
        for tag, text in (values | {"difficult": "0", "score": f"{score:.6f}"}).items():
            ElementTree.SubElement(entry, tag).text = text
        corners = ElementTree.SubElement(entry, "bndbox")
        for tag, value in (("xmin", x1 + 1), ("ymin", y1 + 1), ("xmax", x2), ("ymax", y2)):
            ElementTree.SubElement(corners, tag).text = f"{value:.3f}"
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def voc_name(class_name: str) -> str:
    """A class name for VOC's folders, whose list of classes separates its columns by colons."""
    return class_name.replace(":", "-")


def labelme(found: Found, class_names: Sequence[str], path: Path) -> str:
    """LabelMe's JSON, which names the image relative to itself; frames are looked for beside it."""
    frame = Path(found.file_name).name
    rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
    shapes = [
        {
            "label": class_names[label],
            "points": [[x1, y1], [x2, y2]],
            "group_id": None,
            "description": f"{score:.3f}",
            "shape_type": "rectangle",
            "flags": {},
        }
        for (x1, y1, x2, y2), score, label in rows
    ]
    described: dict[str, object] = {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": os.path.relpath(found.path, path.parent) if found.frame is None else frame,
        "imageData": None,
        "imageHeight": found.size[0],
        "imageWidth": found.size[1],
    }
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


EACH: dict[str, tuple[str, Write]] = {
    "yolo": ("yolo/labels/{}.txt", yolo),
    "voc": ("voc/Annotations/{}.xml", voc),
    "visdrone": ("visdrone/{}.txt", visdrone),
    "labelme": ("labelme/{}.json", labelme),
}
"""By the word of --save: file of an image's name, and what is written to it."""
