"""Data sets of one image and one object in each format, as other tools might write them."""

import json

from PIL import Image

from datamodules.formats.coco import read_coco
from datamodules.formats.visdrone import read_visdrone
from datamodules.formats.voc import read_voc
from datamodules.formats.yolo import read_description, read_yolo

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
