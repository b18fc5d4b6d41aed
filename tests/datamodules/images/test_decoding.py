import cv2
import numpy as np
import pytest
import simplejpeg
from jsonargparse import ArgumentParser

from datamodules.batch import Annotations, ImageInfo, Key
from datamodules.images.decoding import Images, Reading, read_image, reduced_size, reduction
from datamodules.loading.dataset import DetectionDataset
from datamodules.loading.samplers import Sampling
from datamodules.modules import CocoDataModule
from datamodules.problems import DataError
from datamodules.records import Record
from datamodules.transforms.augment import Augment, largest_scale


def record(path, size, boxes=()):
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    empty = np.empty(0, dtype=np.float32)
    labels = np.zeros(len(boxes), dtype=np.int64)
    annotations = Annotations(boxes, labels, empty, np.empty((0, 4), np.float32), labels[:0])
    return Record(str(path), ImageInfo(1, path.name, size), annotations)


def write(path, image, sampling=0x111111):
    """Quality 100 and full colour, so that what is seen is the decoder's, not the encoder's."""
    options = [cv2.IMWRITE_JPEG_QUALITY, 100, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
    cv2.imwrite(str(path), image, options if path.suffix == ".jpg" else [])
    return path


# -------------------------------------------------------------------------------------------- how small


@pytest.mark.parametrize(
    ("scale", "k"),
    [
        (2, 1),
        (1, 1),
        (0.51, 1),
        (0.5, 2),
        (1.5 * (640 / 1920), 2),
        (0.26, 2),
        (0.25, 4),
        (0.125, 8),
        (0.01, 8),
    ],
)
def test_an_image_keeps_all_pixels_that_are_shown(scale, k):
    assert reduction(scale) == k


def test_largest_scale_counts_zoom_and_canvases():
    # 100 x 200 fits a canvas of 50 x 50 at 1/4, and one of 50 x 80 at 2/5.
    assert largest_scale((100, 200), [(50, 50)], Augment(scale=(0.5, 1.0))) == 0.25
    assert largest_scale((100, 200), [(50, 50), (50, 80)], Augment(scale=(0.5, 1.5))) == pytest.approx(0.6)


def test_tiles_show_the_original_scale():
    assert largest_scale((1000, 2000), [(50, 50)], Augment(scale=(0.5, 1.0), tile=0.01)) == 1


@pytest.fixture
def large_folder(coco_folder):
    """Images of 48 x 64 pixels that the canvas of 12 x 16 shows at a quarter of their size."""
    return lambda **more: coco_folder.module(image_size=(12, 16), **more)


@pytest.mark.parametrize(
    ("options", "k"),
    [
        ({"augment": Augment(scale=(0.5, 1.0))}, 4),
        ({"augment": Augment(scale=(0.5, 1.01))}, 2),
        ({"augment": Augment(scale=(0.5, 1.0), tile=0.1)}, 1),
        # A canvas has sides of 32 pixels at least here: 32 / 64, then 64 / 64.
        ({"augment": Augment(scale=(0.5, 1.0)), "sampling": Sampling(multi_scale=(1, 1))}, 2),
        ({"augment": Augment(scale=(0.5, 1.0)), "sampling": Sampling(multi_scale=(1, 4))}, 1),
        ({"augment": Augment(scale=(0.5, 1.0)), "sampling": Sampling(rectangular=True)}, 2),
    ],
)
def test_reduction_follows_the_configuration(large_folder, options, k):
    module = large_folder(**options)
    module.setup("fit")
    assert set(module.train_dataloader().dataset.images.reductions) == {k}


def test_evaluation_reads_at_full_size(large_folder):
    module = large_folder(augment=Augment(scale=(0.5, 1.0)))
    module.setup("fit")
    assert module.val_dataloader().dataset.images[0].shape == (48, 64, 3)
    assert module.train_dataloader().dataset.images[0].shape == (12, 16, 3)


def test_options_on_the_command_line(coco_folder):
    parser = ArgumentParser()
    parser.add_class_arguments(CocoDataModule, "data")
    files = {"images": coco_folder.images, "annotations": coco_folder.json}
    options = [f"--data.{split}_{kind}={path}" for split in ("train", "val") for kind, path in files.items()]
    options += [
        "--data.reading.cache=disk",
        "--data.reading.gigabytes=2",
        "--data.reading.reduced_decode=false",
    ]
    module = parser.instantiate(parser.parse_args(options)).data
    assert module.reading == Reading(reduced_decode=False, cache="disk", gigabytes=2)


def test_a_cache_has_a_size():
    with pytest.raises(ValueError, match=r"reading\.gigabytes must be above 0"):
        Reading(gigabytes=0)


# ------------------------------------------------------------------------------------------- where it is


def rectangle(size, box):
    image = np.full((*size, 3), 20, dtype=np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 230
    return image


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
@pytest.mark.parametrize("reduced_decode", [True, False])
@pytest.mark.parametrize("k", [2, 4, 8])
@pytest.mark.parametrize("size", [(240, 320), (237, 317)])
def test_a_rectangle_is_where_its_box_says(tmp_path, suffix, reduced_decode, k, size):
    # Corners at multiples of 8, so that each reduced pixel lies inside or outside. A shift by half a pixel,
    # or a scale of 119 / 237 instead of 1 / 2, would leave grey ones at the edges.
    box = (64, 48, 256, 200)
    path = write(tmp_path / f"a{suffix}", rectangle(size, box))
    image = read_image(record(path, size), k, reduced_decode)
    height, width = -(-size[0] // k), -(-size[1] // k)
    assert image.shape == (height, width, 3)
    expected = rectangle((height, width), [side // k for side in box])
    assert np.abs(image.astype(int) - expected).max() <= 8


@pytest.mark.parametrize("reduced_decode", [True, False])
@pytest.mark.parametrize("k", [2, 4, 8])
def test_colours_of_half_resolution_do_not_bleed(tmp_path, reduced_decode, k):
    # The box covers whole blocks of 16 x 16 pixels, which share their colours.
    image = rectangle((240, 320), (64, 48, 256, 192))
    image[..., 0] = 255 - image[..., 0]
    path = write(tmp_path / "a.jpg", image, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
    found = read_image(record(path, (240, 320)), k, reduced_decode)
    expected = image[::k, ::k, ::-1]
    assert np.abs(found.astype(int) - expected).max() <= 3


SAMPLINGS = {422: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422, 440: cv2.IMWRITE_JPEG_SAMPLING_FACTOR_440}


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS.keys())
@pytest.mark.parametrize(
    ("k", "flag"), [(1, cv2.IMREAD_COLOR), (2, cv2.IMREAD_REDUCED_COLOR_2), (4, cv2.IMREAD_REDUCED_COLOR_4)]
)
def test_jpegs_have_the_pixels_of_opencv(tmp_path, monkeypatch, sampling, k, flag):
    noise = np.random.default_rng(0).integers(0, 256, (61, 79, 3), dtype=np.uint8)
    path = write(tmp_path / "a.jpg", noise, sampling)
    monkeypatch.setattr(cv2, "resize", None)  # libjpeg reduces
    found = read_image(record(path, (61, 79)), k)
    assert (found[..., ::-1] == cv2.imread(str(path), flag)).all()


def test_a_jpeg_that_ends_in_the_middle(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (61, 79, 3), dtype=np.uint8)
    path = write(tmp_path / "a.jpg", noise)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"a\.jpg is not a readable image"):
        read_image(record(path, (61, 79)))


@pytest.mark.parametrize("k", [1, 2])
def test_a_kind_of_jpeg_that_simplejpeg_refuses(tmp_path, monkeypatch, k):
    rng = np.random.default_rng(0)
    smooth = cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), (79, 61))
    one = record(write(tmp_path / "a.jpg", smooth), (61, 79))
    usual = read_image(one, k)

    def refuse(*_, **__):
        raise ValueError

    monkeypatch.setattr(simplejpeg, "decode_jpeg", refuse)
    assert np.abs(read_image(one, k).astype(int) - usual).max() <= 2


@pytest.mark.parametrize("k", [2, 4, 8])
def test_both_ways_agree_within_a_fraction_of_a_pixel(tmp_path, k):
    rng = np.random.default_rng(0)
    noise = rng.uniform(0, 255, (30, 40, 3)).astype(np.float32)
    smooth = cv2.resize(noise, (400, 300), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)
    path = write(tmp_path / "a.jpg", smooth)
    fast, exact = (read_image(record(path, (300, 400)), k, way).astype(float) for way in (True, False))
    # Least-squares shift along each axis: difference = shift * gradient.
    for axis in (0, 1):
        gradient = np.gradient(exact, axis=axis)
        shift = ((fast - exact) * gradient).sum() / (gradient**2).sum()
        assert abs(shift) < 0.01


def test_blocks_are_averaged(tmp_path):
    # The last column stands for a block of which only one column exists.
    image = np.array([[[0], [10], [40]], [[20], [30], [60]]], dtype=np.uint8).repeat(3, axis=2)
    path = write(tmp_path / "a.png", image)
    assert read_image(record(path, (2, 3)), 2)[..., 0].tolist() == [[15, 50]]


def test_sizes_round_up():
    assert reduced_size((541, 961), 2) == (271, 481)
    assert Images([record_of_size((541, 961))], [4]).shape(0) == (136, 241, 3)


def record_of_size(size):
    annotations = Annotations(*(np.empty(0) for _ in range(5)))
    return Record("a.jpg", ImageInfo(1, "a.jpg", size), annotations)


def test_reduced_images_are_rgb(tmp_path):
    red = np.zeros((32, 32, 3), dtype=np.uint8)
    red[..., 2] = 254  # OpenCV writes blue, green, red
    for suffix in (".jpg", ".png"):
        path = write(tmp_path / f"a{suffix}", red)
        assert read_image(record(path, (32, 32)), 2)[0, 0].tolist() == [254, 0, 0]


@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_training_boxes_are_those_of_full_size(tmp_path, mosaic):
    box = (64, 48, 256, 200)
    path = write(tmp_path / "a.jpg", rectangle((237, 317), box))
    records = [record(path, (237, 317), [box])] * 4
    augment = Augment(scale=(0.8, 1.0), mosaic=mosaic, min_visibility=0)
    keys = [Key(0, index, (60, 80)) for index in range(4)]
    full = DetectionDataset(records, (60, 80), augment).__getitems__(keys)
    reduced = DetectionDataset(records, (60, 80), augment, images=Images(records, [2] * 4)).__getitems__(keys)
    for one, other in zip(full, reduced, strict=True):
        # Corner, side and source window are rounded to whole pixels of the image that was read: three halves.
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1.5)
        for x1, y1, x2, y2 in other.boxes:
            inside = other.image[round(y1) + 1 : round(y2) - 1, round(x1) + 1 : round(x2) - 1]
            assert inside.size == 0 or inside.min() > 200


def test_a_reduced_file_of_another_size(tmp_path):
    path = write(tmp_path / "a.jpg", np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(DataError, match=r"a\.jpg is 64x48 pixels, but was 80x48 when the data set was"):
        read_image(record(path, (48, 80)), 2)


def test_a_file_without_content(tmp_path):
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match=r"a\.jpg is not a readable image"):
        read_image(record(tmp_path / "a.jpg", (48, 80)), 2)
