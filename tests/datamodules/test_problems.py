"""What becomes of bad rows and images: stopped at, or left out, counted and said once."""

import shutil
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.batch import ANY_CLASS
from datamodules.formats.coco import read_coco
from datamodules.formats.visdrone import read_visdrone
from datamodules.images.headers import check_images
from datamodules.problems import DataError, Problems


def write_noise(path, height=48, width=64):
    cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


def problems_of(*paths):
    problems = Problems("skip")
    return set(check_images(paths, Path("list.txt"), problems)), problems.found


# ---------------------------------------------------------------------------------------- image files


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("share", [0.5, 0.98])
def test_truncated_images_are_found(tmp_path, suffix, share):
    whole, cut = tmp_path / f"whole.{suffix}", tmp_path / f"cut.{suffix}"
    write_noise(whole)
    content = whole.read_bytes()
    cut.write_bytes(content[: int(len(content) * share)])
    fine, found = problems_of(whole, cut)
    assert fine == {whole}
    assert found == [f"{cut} is truncated: restore the file or remove it from list.txt"]


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("more", [b"\0" * 40, b"\0" * 5000, b"trailer of a camera " * 99])
def test_bytes_after_the_image_do_no_harm(tmp_path, suffix, more):
    path = tmp_path / f"a.{suffix}"
    write_noise(path)
    path.write_bytes(path.read_bytes() + more)
    assert problems_of(path) == ({path}, [])


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_image(tmp_path):
    path = tmp_path / "a.jpg"
    write_noise(path)
    whole = path.read_bytes()
    # An application segment with an end marker in it, as thumbnails have.
    segment = b"\xff\xe1\x00\x0aabcdef\xff\xd9"
    path.write_bytes(whole[:2] + segment + whole[2:-900])
    assert problems_of(path)[1] == [f"{path} is truncated: restore the file or remove it from list.txt"]


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "CMYK"])
def test_colour_modes_that_can_be_read(tmp_path, mode):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    colours = Image.new("RGB", (64, 48), (200, 100, 50))
    colours.convert(mode).save(path)
    assert problems_of(path) == ({path}, [])
    # Grey has one value, palette and black-and-white their nearest; the others keep the colour.
    if mode in ("RGB", "RGBA", "CMYK"):
        pixel = cv2.imread(str(path), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)[20, 20, ::-1]
        np.testing.assert_allclose(pixel, (200, 100, 50), atol=3)


@pytest.mark.parametrize(
    ("mode", "reason"), [("F", "floating-point"), ("I", "32-bit numbers"), ("LAB", "CIE Lab")]
)
def test_colour_modes_that_cannot_be_read_rightly(tmp_path, mode, reason):
    path = tmp_path / "a.tif"
    Image.new(mode, (64, 48)).save(path)
    fine, found = problems_of(path)
    assert not fine
    assert reason in found[0]
    assert "convert it to 8 bits a channel" in found[0]


def test_sixteen_bits_are_read_with_a_warning(tmp_path):
    paths = [tmp_path / "a.png", tmp_path / "b.tif", tmp_path / "c.png"]
    for path in paths[:2]:
        cv2.imwrite(str(path), np.full((48, 64), 257 * 9, np.uint16))
    write_noise(paths[2])
    with pytest.warns(UserWarning, match=r"2 of 3 images hold 16 bits a pixel and are read as value / 256"):
        fine, _ = problems_of(*paths)
    assert fine == set(paths)
    assert cv2.imread(str(paths[0]))[0, 0].tolist() == [9, 9, 9]


def test_files_that_are_no_images(tmp_path):
    empty, text, foreign = tmp_path / "a.jpg", tmp_path / "b.png", tmp_path / "c.jpg"
    empty.write_bytes(b"")
    text.write_text("not an image")
    Image.new("RGB", (9, 9)).save(foreign, "PCX")
    fine, found = problems_of(empty, text, foreign, tmp_path, tmp_path / "nul\0", tmp_path / ("x" * 300))
    assert not fine
    assert sum("is not a readable image: restore" in message for message in found) == 5
    assert f"{foreign} is a PCX file, which cannot be read: convert it to JPEG or PNG" in found


def test_missing_images_are_counted(tmp_path):
    _, found = problems_of(tmp_path / "a.jpg", tmp_path / "b.jpg")
    assert found[0].startswith(
        f"{tmp_path / 'a.jpg'} does not exist; 2 of the 2 images of list.txt are missing"
    )


def test_large_images_can_be_measured(tmp_path):
    # 0.2 gigapixels: Pillow refuses that by itself, and cv2 does not.
    path = tmp_path / "a.png"
    Image.new("1", (20000, 10000)).save(path)
    assert check_images([path], tmp_path, Problems())[path].size == (10000, 20000)


# -------------------------------------------------------------------------------------- left out, or not


def skip(module, stage="validate"):
    """Set a module up; returns the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        module.setup(stage)
    return [str(warning.message) for warning in caught if "left out" in str(warning.message)]


def test_an_image_with_a_bad_row_is_left_out_as_a_whole(coco_folder):
    # Its other, good object would else be kept and the bad one trained as background.
    coco_folder.annotate(2, 3, [1, 2, 3])
    coco_folder.annotate(4, 99, [1, 2, 3, 4])
    coco_folder.annotate(5, 3, [float("nan"), 2, 3, 4])
    coco_folder.save()
    module = coco_folder.module(on_error="skip")
    (message,) = skip(module)
    assert [record.info.image_id for record in module.records["val"].images] == [1, 3, 6]
    assert message.startswith(
        "val split: 3 of 6 images and 6 of 9 rows (67%) are left out (data.on_error is skip):"
    )
    assert all(f"annotations[{row}]" in message for row in (6, 7, 8))


def test_images_that_cannot_be_read_are_left_out(coco_folder):
    (coco_folder.images / "1.png").unlink()
    (coco_folder.images / "2.png").write_bytes((coco_folder.images / "2.png").read_bytes()[:99])
    coco_folder.data["images"][2]["width"] = 65
    del coco_folder.data["images"][3]["file_name"]
    coco_folder.save()
    module = coco_folder.module(on_error="skip")
    (message,) = skip(module, "fit")[:1]
    assert [record.info.image_id for record in module.records["train"].images] == [5, 6]
    assert message.startswith("train split: 4 of 6 images and 2 of 4 rows (50%) are left out")
    for part in ("1.png does not exist", "2.png is truncated", "3.png is 64x48", "images[3] is malformed"):
        assert part in message


def test_rows_of_no_image_are_left_out_alone(coco_folder):
    coco_folder.annotate(99, 3, [1, 2, 3, 4])
    coco_folder.data["annotations"].append("row")
    coco_folder.save()
    module = coco_folder.module(on_error="skip")
    (message,) = skip(module)
    assert message.startswith("val split: 0 of 6 images and 2 of 8 rows (25%) are left out")
    assert len(module.records["val"].images) == 6


def test_of_two_images_of_one_id_both_are_left_out(coco_folder):
    coco_folder.data["images"][1]["id"] = 1
    coco_folder.save()
    problems = Problems("skip")
    records = read_coco(coco_folder.json, coco_folder.images, ["dontcare"], problems=problems)
    assert [record.info.image_id for record in records.images] == [3, 4, 5, 6]
    assert problems.summary(4).startswith("2 of 6 images and 2 of 6 rows (33%) are left out")


def test_a_split_of_which_nothing_is_left_is_a_mistake(coco_folder):
    for image in coco_folder.data["images"]:
        image["width"] = 65
    coco_folder.save()
    with pytest.raises(
        DataError, match=r"every image has a problem, so none is left; the first of them: .*1\.png"
    ):
        coco_folder.module(on_error="skip").setup("validate")
    for image in coco_folder.data["images"]:
        image.clear()
    coco_folder.save()
    with pytest.raises(DataError, match=r"none is left; the first of them: .*images\[0\] is malformed"):
        coco_folder.module(on_error="skip").setup("validate")


def test_problems_of_the_whole_split_are_raised_all_the_same(coco_folder):
    module = coco_folder.module(on_error="skip", class_names=["car", "ship"])
    coco_folder.json.write_text("{")
    with pytest.raises(DataError, match="is not valid JSON"):
        module.setup("validate")


def test_visdrone_leaves_images_out_too(tmp_path):
    for folder in ("images", "annotations"):
        (tmp_path / folder).mkdir()
    for stem, row in (("a", "1,1,9,9,1,4,0,0"), ("b", "1,1,9"), ("c", "1,1,9,9,1,4,0,0"), ("d", "")):
        write_noise(tmp_path / "images" / f"{stem}.jpg")
        (tmp_path / "annotations" / f"{stem}.txt").write_text(row)
    (tmp_path / "annotations" / "c.txt").unlink()
    problems = Problems("skip")
    records = read_visdrone(tmp_path, problems=problems)
    assert [record.info.file_name for record in records.images] == ["a.jpg", "d.jpg"]
    assert [record.info.image_id for record in records.images] == [1, 4]  # ids stay those of the whole folder
    assert "b.txt, line 1 is malformed" in problems.found[0]
    assert "c.txt cannot be read" in problems.found[1]


def test_a_long_list_of_problems_is_cut():
    problems = Problems("skip")
    for k in range(8):
        problems.add(f"message {k}", f"image {k // 2}")
    assert problems.summary(6).splitlines() == [
        "4 of 10 images are left out (data.on_error is skip):",
        *(f"  message {k}" for k in range(5)),
        "  and 3 more",
    ]


# ------------------------------------------------------------------------------- bad when it is decoded


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_does_not_decode_is_grey_and_ignored(coco_folder, num_workers):
    module = coco_folder.module(on_error="skip", num_workers=num_workers, image_size=(48, 64))
    module.setup("fit")
    path = coco_folder.images / "2.png"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x55  # the header and the end stay as they are
    path.write_bytes(content)
    assert problems_of(path) == ({path}, [])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        batch = next(iter(module.val_dataloader()))
    if num_workers == 0:  # a worker's warning goes to its own stderr
        (message,) = [str(warning.message) for warning in caught if "grey image" in str(warning.message)]
        assert str(path) in message
    assert batch.images[1].unique().numel() == 1
    assert batch.images[0].unique().numel() > 1
    assert batch.image_index.tolist() == [0]
    assert batch.ignore_boxes.tolist() == [[0, 0, 64, 48]]
    assert batch.ignore_index.tolist() == [1]
    assert batch.annotations[1].boxes.shape == (0, 4)
    assert batch.annotations[1].ignore_labels.tolist() == [ANY_CLASS]
    for batch in module.train_dataloader():  # alone, or as a part of a mosaic
        assert torch.isfinite(batch.boxes).all()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_folder_that_vanishes_ends_the_training_even_where_images_may_be_left_out(coco_folder, num_workers):
    module = coco_folder.module(on_error="skip", num_workers=num_workers, image_size=(48, 64))
    module.setup("fit")
    shutil.rmtree(coco_folder.images)
    with pytest.raises(DataError, match=r"\.png.*: its folder is gone since the training began$"):
        list(module.train_dataloader())


# ------------------------------------------------------------------------------------------- fraction


def drawn(coco_folder, fraction, seed=0):
    module = coco_folder.module(fraction=fraction, seed=seed)
    module.setup("fit")
    assert len(module.records["val"].images) == 6
    return [record.info.image_id for record in module.records["train"].images]


def test_a_fraction_of_the_training_images_is_drawn_by_the_seed(coco_folder):
    half, third = drawn(coco_folder, 0.5), drawn(coco_folder, 1 / 3)
    assert (len(half), len(third)) == (3, 2)
    assert set(third) < set(half)
    assert half == sorted(half) == drawn(coco_folder, 0.5)
    assert len({tuple(drawn(coco_folder, 0.5, seed)) for seed in range(6)}) > 1
    assert drawn(coco_folder, 1.0) == [1, 2, 3, 4, 5, 6]
    assert len(drawn(coco_folder, 0.01)) == 1


@pytest.mark.parametrize("fraction", [0, -0.1, 1.1, float("nan")])
def test_fractions_out_of_range(coco_folder, fraction):
    with pytest.raises(ValueError, match=r"data\.fraction must be above 0 and at most 1"):
        coco_folder.module(fraction=fraction)
