"""Images by windows: the pixels of the whole, whatever the kind of file."""

import builtins
from pathlib import Path

import cv2
import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from datamodules.images import windows
from datamodules.images.decoding import read_image_file
from datamodules.images.windows import Decoded, Raster, open_image
from datamodules.problems import DataError

pytestmark = pytest.mark.filterwarnings(
    f"ignore::{NotGeoreferencedWarning.__module__}.NotGeoreferencedWarning"
)

PIXELS = np.random.default_rng(0).integers(0, 256, (90, 140, 3), np.uint8)


def write(path: Path, pixels: np.ndarray = PIXELS, **options: object) -> str:
    """A TIFF of rasterio's of (H, W, bands)."""
    height, width, count = pixels.shape
    profile = {"driver": "GTiff", "height": height, "width": width, "count": count, "dtype": pixels.dtype}
    with rasterio.open(path, "w", **profile, **options) as file:
        file.write(pixels.transpose(2, 0, 1))
    return str(path)


@pytest.fixture(autouse=True)
def small_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "DECODED_WHOLE", 1000)


@pytest.mark.parametrize("kind", ["strips", "tiles", "png", "rgba", "sixteen"])
def test_windows_are_parts_of_the_whole(kind: str, tmp_path: Path) -> None:
    path = str(tmp_path / ("image.png" if kind == "png" else "image.tif"))
    if kind == "png":
        Image.fromarray(PIXELS).save(path)
    elif kind == "rgba":
        write(Path(path), np.dstack((PIXELS, PIXELS[..., :1])))
    elif kind == "sixteen":
        write(Path(path), PIXELS.astype(np.uint16) * 256 + 255)
    else:
        blocks = {"tiled": True, "blockxsize": 32, "blockysize": 32} if kind == "tiles" else {"blockysize": 7}
        write(Path(path), **blocks)
    source = open_image(path)
    assert isinstance(source, Raster)
    assert source.size == (90, 140)
    for window in ((0, 0, 140, 90), (20, 33, 77, 34), (139, 89, 140, 90)):
        x1, y1, x2, y2 = window
        assert (source.read(window, (y2 - y1, x2 - x1)) == PIXELS[y1:y2, x1:x2]).all()
    source.close()


@pytest.mark.parametrize("kind", ["jpg", "png", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_as_the_file_says(orientation: int, kind: str, tmp_path: Path) -> None:
    path = str(tmp_path / f"image.{kind}")
    exif = Image.Exif()
    exif[0x0112] = orientation
    # Smooth, so that JPEG's decoders agree.
    y, x = np.mgrid[:90, :140]
    smooth = np.dstack((x + 60, 2 * y, 200 - x)).astype(np.uint8)
    Image.fromarray(smooth).save(path, exif=exif)
    whole, source = read_image_file(path), open_image(path)
    assert isinstance(source, Raster)
    assert source.size == whole.shape[:2] == ((90, 140) if orientation < 5 else (140, 90))
    for window in ((0, 0, *source.size[::-1]), (20, 33, 77, 34), (10, 50, 42, 90)):
        x1, y1, x2, y2 = window
        seen = source.read(window, (y2 - y1, x2 - x1))
        assert seen.shape == (y2 - y1, x2 - x1, 3)
        assert np.abs(seen.astype(int) - whole[y1:y2, x1:x2]).max() <= 6
    x1, y1, x2, y2 = 10, 50, 42, 90  # 40 x 32, of which a half is needed in one direction alone
    assert source.read((x1, y1, x2, y2), (20, 16)).shape == (20, 16, 3)
    assert source.read((x1, y1, x2, y2), (21, 16)).shape == (40, 32, 3)
    source.close()


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_few_greys_are_shades(bits: int, tmp_path: Path) -> None:
    numbers = np.random.default_rng(1).integers(0, 2**bits, (90, 140, 1), np.uint8)
    with rasterio.open(
        tmp_path / "grey.tif", "w", driver="GTiff", height=90, width=140, count=1, dtype="uint8", nbits=bits
    ) as file:
        file.write(numbers.transpose(2, 0, 1))
    source = open_image(str(tmp_path / "grey.tif"))
    assert isinstance(source, Raster)
    assert (source.read((0, 0, 140, 90), (90, 140)) == numbers * (255 // (2**bits - 1))).all()
    source.close()


def test_a_fourth_channel_changes_no_colours(tmp_path: Path) -> None:
    infrared = np.full((90, 140, 1), 60, np.uint8)
    path = write(tmp_path / "chip.tif", np.dstack((PIXELS, infrared)))
    assert (read_image_file(path) == PIXELS).all()


def test_a_small_file_is_decoded_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "DECODED_WHOLE", 90 * 140)
    source = open_image(write(tmp_path / "image.tif"))
    assert isinstance(source, Decoded)
    assert (source.read((10, 20, 30, 50), (1, 1)) == PIXELS[20:50, 10:30]).all()
    source.close()


def test_what_is_shown_small_is_read_small(tmp_path: Path) -> None:
    source = open_image(write(tmp_path / "image.tif"))
    # A quarter would be less than needed; blocks of 2x2 are averaged.
    pixels = source.read((0, 0, 140, 88), (30, 30))
    expected = cv2.resize(PIXELS[:88], (70, 44), interpolation=cv2.INTER_AREA)
    assert pixels.shape == (44, 70, 3)
    assert np.abs(pixels.astype(int) - expected).max() <= 1
    source.close()


def test_grey_and_palette(tmp_path: Path) -> None:
    grey = open_image(write(tmp_path / "grey.tif", PIXELS[..., :1]))
    assert (grey.read((0, 0, 140, 90), (90, 140)) == PIXELS[..., :1]).all()
    palette = Image.fromarray(PIXELS).convert("P", palette=Image.Palette.ADAPTIVE, colors=7)
    palette.save(tmp_path / "palette.png")
    found = open_image(str(tmp_path / "palette.png")).read((0, 0, 140, 90), (9, 14))
    assert (found == read_image_file(str(tmp_path / "palette.png"))).all()


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "image.tif"
    write(path)
    path.write_bytes(path.read_bytes()[:20_000])
    source = open_image(str(path))
    with pytest.raises(DataError, match=r"image.tif is not a readable image .*restore the file"):
        source.read((0, 0, 140, 90), (90, 140))
    write(path, PIXELS.astype(np.float32))
    with pytest.raises(DataError, match="holds float32: convert it to 8 bits a channel"):
        open_image(str(path))
    path.write_bytes(b"")
    with pytest.raises(DataError, match="is not a readable image"):
        open_image(str(path))
    with pytest.raises(DataError, match=r"nowhere\.tif does not exist"):
        open_image("nowhere.tif")


def test_without_rasterio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "image.tif")
    there = builtins.__import__

    def missing(name: str, *rest: object) -> object:
        if name == "rasterio":
            raise ImportError(name)
        return there(name, *rest)

    monkeypatch.setattr(builtins, "__import__", missing)
    assert isinstance(open_image(path), Decoded)
    monkeypatch.setattr(windows, "LARGEST_IMAGE", 1000)
    with pytest.raises(DataError, match=r"more than 2\^28 pixels, and rasterio.*pinpoint-detector\[geo\]"):
        open_image(path)


@pytest.mark.parametrize(
    ("dtype", "bands", "options", "said"),
    [
        (np.uint16, 3, {"interleave": "band"}, "has 3 channels that are not read as such: save it anew"),
        (np.uint16, 8, {"interleave": "band", "compress": "lzw"}, "has 8 channels"),
        (np.uint8, 5, {"interleave": "band", "compress": "deflate"}, "has 5 channels"),
        (np.uint16, 3, {"photometric": "minisblack"}, "not a readable image: .* save it as RGB of 8 bits"),
    ],
)
def test_a_small_file_of_which_one_channel_would_be_seen_is_refused(
    dtype: type, bands: int, options: dict[str, str], said: str, tmp_path: Path
) -> None:
    pixels = np.repeat(PIXELS[..., :1], bands, axis=2).astype(dtype)
    path = write(tmp_path / "image.tif", pixels, **options)
    with pytest.raises(DataError, match=said):
        read_image_file(path)
    source = open_image(path)  # GDAL reads it rightly, where it is large
    assert isinstance(source, Raster)
    assert source.read((0, 0, 140, 90), (90, 140)).shape == (90, 140, 3)
    source.close()
