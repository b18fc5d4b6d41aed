"""All eight orientations of EXIF, as stored by every format, reach training as they are displayed."""

import numpy as np
import pytest
from PIL import Image, ImageOps

from datamodules.batch import Annotations, ImageInfo
from datamodules.images.decoding import read_image, read_image_file
from datamodules.images.headers import annotated_turn, check_images
from datamodules.images.orientation import displayed_size, turn_box, turn_image
from datamodules.problems import Problems
from datamodules.records import Record

HEIGHT, WIDTH = 48, 96

SUFFIXES = ["jpg", "png", "tif", "webp"]


def displayed():
    """Grey; a white rectangle at x 16 to 40, y 8 to 24: nowhere near its place in any other orientation."""
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    image[8:24, 16:40] = 255
    return image


def stored(image, orientation):
    """The pixels that are displayed as `image`: Pillow's own turn, backwards."""
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_90"}
    turns |= {7: "TRANSVERSE", 8: "ROTATE_270"}
    picture = Image.fromarray(image)
    return picture if orientation == 1 else picture.transpose(Image.Transpose[turns[orientation]])


def save(path, orientation, image=None):
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"jpg": {"quality": 95, "subsampling": 0, "exif": exif}, "png": {"exif": exif}}
    options |= {"tif": {"tiffinfo": {0x0112: orientation}}, "webp": {"lossless": True, "exif": exif}}
    stored(displayed() if image is None else image, orientation).save(path, **options[path.suffix[1:]])
    return path


def record(path, header):
    empty = np.empty((0, 4), np.float32)
    labels = np.empty(0, np.int64)
    found = Annotations(empty, labels, np.empty(0, np.float32), empty, labels)
    return Record(str(path), ImageInfo(1, path.name, header.size), found, header.turn)


def header_of(path):
    return check_images([path], path.parent, Problems())[path]


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_are_as_displayed(tmp_path, suffix, orientation):
    path = save(tmp_path / f"a.{suffix}", orientation)
    header = header_of(path)
    assert header.size == (HEIGHT, WIDTH)
    assert header.orientation == orientation
    image = read_image(record(path, header))
    np.testing.assert_array_equal(read_image_file(str(path)), image)
    assert np.abs(image.astype(int) - displayed()).max() <= 30
    # And as an independent program displays it.
    with Image.open(path) as picture:
        assert ImageOps.exif_transpose(picture).size == (WIDTH, HEIGHT)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("size", [(48, 96), (45, 91)])
@pytest.mark.parametrize("k", [2, 8])
def test_reduced_pixels_stand_for_the_same_blocks(tmp_path, suffix, size, k):
    # Sides that k does not divide: the last block lies partly beyond the right or lower edge, never the left.
    image = displayed()[: size[0], : size[1]]
    expected = image[::k, ::k]  # the rectangle is one of whole blocks of 8
    for orientation in range(1, 9):
        path = save(tmp_path / f"{orientation}.{suffix}", orientation, image)
        found = read_image(record(path, header_of(path)), k)
        assert found.shape == expected.shape
        assert np.abs(found.astype(int) - expected).max() <= 16, orientation


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_as_pixels_do(orientation):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[8:24, 16:40] = 1
    ys, xs = np.nonzero(np.asarray(stored(mask, orientation)))
    box = (xs.min(), ys.min(), xs.max() - xs.min() + 1, ys.max() - ys.min() + 1)
    assert turn_box(box, orientation, (HEIGHT, WIDTH)) == (16, 8, 24, 16)
    np.testing.assert_array_equal(turn_image(np.array(stored(mask, orientation)), orientation), mask)
    assert displayed_size(np.asarray(stored(mask, orientation)).shape, orientation) == (HEIGHT, WIDTH)


def test_png_that_says_it_after_the_pixels(tmp_path):
    path = save(tmp_path / "a.png", 6)
    content = path.read_bytes()
    start = content.index(b"eXIf") - 4
    stop = start + 12 + int.from_bytes(content[start : start + 4], "big")
    chunk, rest = content[start:stop], content[:start] + content[stop:]
    path.write_bytes(rest[:-12] + chunk + rest[-12:])
    assert header_of(path).orientation == 6


@pytest.mark.parametrize("value", [0, 9, 300])
def test_orientations_that_are_none(tmp_path, value):
    path = save(tmp_path / "a.jpg", 1)
    exif = Image.Exif()
    exif[0x0112] = value
    Image.fromarray(displayed()).save(path, exif=exif)
    assert header_of(path).orientation == 1


def test_damaged_exif_does_not_make_an_image_unreadable(tmp_path):
    path = tmp_path / "a.jpg"
    Image.fromarray(displayed()).save(path, exif=b"Exif\0\0MM\0*\0\0\xff\xff nonsense")
    assert header_of(path).orientation == 1


def test_the_size_tells_in_which_frame_annotations_are(tmp_path):
    turned, mirrored = header_of(save(tmp_path / "a.jpg", 6)), header_of(save(tmp_path / "b.jpg", 3))
    problems = Problems("skip")

    def frame(header, size):
        return annotated_turn(tmp_path / "a.jpg", header, size, "list.json", problems)

    assert frame(turned, (HEIGHT, WIDTH)) == 1
    assert frame(turned, (WIDTH, HEIGHT)) == 6
    assert frame(turned, None) == 1
    assert frame(mirrored, (HEIGHT, WIDTH)) == 1  # either frame has this size: the displayed one is meant
    assert not problems.found
    assert frame(mirrored, (WIDTH, HEIGHT)) == 1
    assert "is 96x48 pixels, but list.json says 48x96: either they are swapped there, or" in problems.found[0]
    assert frame(turned, (HEIGHT, WIDTH + 1)) == 1
    assert "is 96x48 pixels, but list.json says 97x48: correct the width and height" in problems.found[1]
