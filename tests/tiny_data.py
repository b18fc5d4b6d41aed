"""The smallest data sets of each format: two grey images a split, with one car and one ignored object."""

from pathlib import Path

import cv2
import numpy as np

SIDE = 96


def write_images(folder: Path, names: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        cv2.imwrite(str(folder / name), np.full((SIDE, SIDE, 3), 99, np.uint8))


def write_visdrone(root: Path, splits: tuple[str, ...] = ("train", "val", "test-dev")) -> None:
    for split in splits:
        folder = root / f"VisDrone2019-DET-{split}"
        write_images(folder / "images", ("0.jpg", "1.jpg"))
        (folder / "annotations").mkdir()
        for i in range(2):
            (folder / "annotations" / f"{i}.txt").write_text("9,9,20,20,1,4,0,0\n50,50,30,30,0,0,0,0,\n")


def write_yolo(root: Path) -> Path:
    """Returns the data.yaml."""
    for split in ("train", "val", "test"):
        write_images(root / "images" / split, ("0.jpg", "1.jpg"))
        (root / "labels" / split).mkdir(parents=True)
        for i in range(2):
            (root / "labels" / split / f"{i}.txt").write_text("0 0.2 0.2 0.2 0.2\n1 0.7 0.7 0.3 0.3\n")
    file = root / "data.yaml"
    file.write_text("train: images/train\nval: images/val\ntest: images/test\nnames: [car, unclear]\n")
    return file


def write_voc(root: Path) -> None:
    (root / "Annotations").mkdir(parents=True)
    (root / "ImageSets" / "Main").mkdir(parents=True)
    box = "<bndbox><xmin>10</xmin><ymin>10</ymin><xmax>29</xmax><ymax>29</ymax></bndbox>"
    objects = "".join(
        f"<object><name>car</name><difficult>{difficult}</difficult>{box}</object>" for difficult in (0, 1)
    )
    for split in ("train", "val", "test"):
        names = (f"{split}0", f"{split}1")
        write_images(root / "JPEGImages", tuple(f"{name}.jpg" for name in names))
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
        for name in names:
            (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{objects}</annotation>")
