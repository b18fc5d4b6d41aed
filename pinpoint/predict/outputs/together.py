"""Files for all images: COCO, CSV, CVAT, lists of YOLO and VOC; by parts, so that memory does not grow."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from xml.sax.saxutils import escape, quoteattr

import yaml

from datamodules.files import visible
from pinpoint.predict.found import Found
from pinpoint.predict.outputs.each import voc_name

Write = Callable[[Iterable[Found], Sequence[str]], Iterator[str]]
"""All that was found and the class names, to the text of a file in parts. `Iterable` may be read twice."""

COLUMNS = ("image", "frame", "class", "score", "x1", "y1", "x2", "y2", "track")


def coco(images: Iterable[Found], class_names: Sequence[str]) -> Iterator[str]:
    """A COCO data set with `score` beside each annotation; ids count from 1, classes in the model's order.

    Its `annotations` are what pycocotools' `loadRes` takes. Numbers are in full precision.
    """
    categories = [{"id": number, "name": name} for number, name in enumerate(class_names, start=1)]
    yield f'{{"categories": {json.dumps(categories)},\n"images": ['
    for number, found in enumerate(images, start=1):
        described = {
            "id": number,
            "file_name": found.file_name,
            "width": found.size[1],
            "height": found.size[0],
        }
        if found.frame is not None:
            described |= {"frame": found.frame, "video": found.path}
        yield ("\n" if number == 1 else ",\n") + json.dumps(described)
    yield '],\n"annotations": ['
    count = 0
    for number, found in enumerate(images, start=1):
        tracks = [-1] * len(found.scores) if found.tracks is None else found.tracks.tolist()
        for box, score, label, track in zip(
            found.xywh.tolist(), found.scores.tolist(), found.labels.tolist(), tracks, strict=True
        ):
            count += 1
            row = {"id": count, "image_id": number, "category_id": label + 1, "bbox": box, "score": score}
            row |= {"area": box[2] * box[3], "iscrowd": 0, "segmentation": []}
            row |= {"track_id": track} if track >= 0 else {}
            yield ("\n" if count == 1 else ",\n") + json.dumps(row)
    yield "]}\n"


def table(images: Iterable[Found], class_names: Sequence[str]) -> Iterator[str]:
    """CSV with a head, one row an object, best first within each image; corners in pixels."""
    yield _csv_row(COLUMNS)
    for found in images:
        tracks = [-1] * len(found.scores) if found.tracks is None else found.tracks.tolist()
        frame = "" if found.frame is None else found.frame
        for box, score, label, track in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), tracks, strict=True
        ):
            corners = [f"{value:.2f}" for value in box]
            number = track if track >= 0 else ""
            yield _csv_row([found.path, frame, class_names[label], f"{score:.4f}", *corners, number])


def cvat(images: Iterable[Found], class_names: Sequence[str]) -> Iterator[str]:
    """CVAT's own XML for images, 1.1; `source="auto"` marks the boxes as pre-labels."""
    labels = "".join(f"<label><name>{escape(name)}</name></label>" for name in class_names)
    yield '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n<version>1.1</version>\n'
    yield f"<meta><task><labels>{labels}</labels></task></meta>\n"
    for number, found in enumerate(images):
        height, width = found.size
        name = quoteattr(visible(found.file_name))  # XML knows no control characters
        yield f'<image id="{number}" name={name} width="{width}" height="{height}">\n'
        for (x1, y1, x2, y2), label in zip(found.boxes.tolist(), found.labels.tolist(), strict=True):
            place = f'xtl="{x1:.2f}" ytl="{y1:.2f}" xbr="{x2:.2f}" ybr="{y2:.2f}"'
            label_name = quoteattr(class_names[label])
            yield f'<box label={label_name} source="auto" occluded="0" {place} z_order="0"></box>\n'
        yield "</image>\n"
    yield "</annotations>\n"


def yolo_description(images: Iterable[Found], class_names: Sequence[str]) -> Iterator[str]:
    """YOLO's data.yaml: a data set, as soon as the images are put into its folder `images`."""
    yield yaml.safe_dump({"train": "images", "val": "images", "names": list(class_names)}, sort_keys=False)


def voc_list(images: Iterable[Found], class_names: Sequence[str]) -> Iterator[str]:
    """VOC's list of a split, without which datumaro and CVAT find nothing."""
    return (f"{visible(found.name)}\n" for found in images)


def voc_classes(images: Iterable[Found], class_names: Sequence[str]) -> Iterator[str]:
    """CVAT's `name:colour:parts:actions` a class; without it, only VOC's own are known."""
    return (f"{voc_name(name)}:::\n" for name in class_names)


def _csv_row(values: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


TOGETHER: dict[str, tuple[str, Write]] = {
    "coco.json": ("coco", coco),
    "detections.csv": ("csv", table),
    "cvat.xml": ("cvat", cvat),
    "yolo/data.yaml": ("yolo", yolo_description),
    "voc/ImageSets/Main/train.txt": ("voc", voc_list),
    "voc/labelmap.txt": ("voc", voc_classes),
}
"""By the file: the word of --save, and what is written to it."""
