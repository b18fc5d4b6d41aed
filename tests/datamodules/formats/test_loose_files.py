"""Names of files, images that are turned, dangerous files, and images that are left out, in every format."""

import os

import numpy as np
import pytest
from one_object import BOX, SIDE, Coco, boxes, visdrone, voc, yolo
from PIL import Image

from datamodules.formats.coco import read_coco
from datamodules.formats.visdrone import read_visdrone
from datamodules.formats.yolo import read_description, read_yolo
from datamodules.problems import DataError, Problems

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
