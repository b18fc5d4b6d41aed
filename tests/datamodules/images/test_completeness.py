"""Image files cut short: found in every format, without decoding those that are whole."""

import numpy as np
import pytest
from PIL import Image

from datamodules.images.headers import check_images
from datamodules.problems import Problems

SAVED = {
    "jpg": {"format": "JPEG"},
    "png": {},
    "bmp": {},
    "gif": {},
    "webp": {},
    "tif": {},
    "tiff": {"compression": "tiff_lzw"},
    "ppm": {},
    "jp2": {"format": "JPEG2000"},
    "mpo": {"format": "MPO", "save_all": True},
}


def save(path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    options = SAVED[path.suffix[1:]]
    if path.suffix == ".mpo":
        options = options | {"append_images": [image.resize((32, 32))]}
    image.save(path, **options)
    return path.read_bytes()


def problems_of(path):
    problems = Problems("skip")
    check_images([path], path.parent, problems)
    return problems.found


@pytest.mark.parametrize("suffix", SAVED)
def test_whole_files_are_not_decoded(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"a.{suffix}"
    save(path)
    if suffix not in ("gif", "webp", "ppm", "jp2"):  # Pillow decodes WebP as it opens it
        monkeypatch.setattr(Image.Image, "load", lambda self: pytest.fail("decoded"))
    assert problems_of(path) == []


@pytest.mark.parametrize(("compression", "name"), [("zstd", "Zstandard"), ("lzma", "LZMA")])
def test_compressions_that_the_decoder_lacks(tmp_path, compression, name):
    path = tmp_path / "a.tif"
    Image.new("RGB", (64, 64)).save(path, compression=compression)
    (message,) = problems_of(path)
    assert f"is compressed by {name}, which is not read: save it with deflate or LZW" in message


@pytest.mark.parametrize("suffix", SAVED)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_files_cut_short(tmp_path, suffix, share):
    path = tmp_path / f"a.{suffix}"
    content = save(path)
    if suffix == "mpo":  # of two pictures the first is read
        content = content[: content.index(b"\xff\xd9") + 2]
    path.write_bytes(content[: int(len(content) * share)])
    (message,) = problems_of(path)
    assert "is truncated" in message or "is not a readable image" in message


@pytest.mark.parametrize("suffix", sorted(set(SAVED) - {"gif"}))
def test_bytes_after_the_end_do_no_harm(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(save(path) + b"trailer of a camera " * 9)
    assert problems_of(path) == []


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 2}])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_jpeg_whose_rest_is_zeros(tmp_path, options, share):
    # As a disk or a download that broke off leaves it. Pillow decodes it without a word.
    path = tmp_path / "a.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (480, 640, 3), dtype=np.uint8)).save(
        path, **options
    )
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)].ljust(len(content), b"\0"))
    (message,) = problems_of(path)
    assert "is truncated" in message
    path.write_bytes(content + bytes(2000))  # padded
    assert problems_of(path) == []


@pytest.mark.parametrize(
    ("name", "options", "lost"),
    [
        ("a.png", {}, 3),
        ("a.gif", {}, 1),
        ("a.tif", {"compression": "jpeg"}, 20),
    ],
)
def test_what_pillow_reads_but_opencv_does_not(tmp_path, name, options, lost):
    # Training decodes with OpenCV, hours after this check.
    path = tmp_path / name
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(
        path, **options
    )
    assert problems_of(path) == []
    content = path.read_bytes()
    path.write_bytes(content[:-lost])
    (message,) = problems_of(path)
    assert "is truncated" in message


def test_a_lossless_webp_whose_rest_is_zeros(tmp_path):
    path = tmp_path / "a.webp"
    blocks = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
    Image.fromarray(blocks).save(path, lossless=True)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2].ljust(len(content), b"\0"))
    (message,) = problems_of(path)
    assert "is truncated" in message


def test_a_second_picture_that_is_cut_does_no_harm(tmp_path):
    path = tmp_path / "a.mpo"
    content = save(path)
    path.write_bytes(content[:-200])
    assert problems_of(path) == []


def test_larger_than_memory(tmp_path):
    Image.new("1", (20000, 20000)).save(tmp_path / "a.png")
    (message,) = problems_of(tmp_path / "a.png")
    assert "has more than 2^28 pixels (20000x20000): cut it into tiles" in message
