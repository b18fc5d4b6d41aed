"""Images of more channels than colours: read, augmented and shown."""

import json

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.drawing import as_rgb
from datamodules.images.decoding import read_image, read_image_file
from datamodules.modules import CocoDataModule
from datamodules.problems import DataError
from datamodules.transforms.augment import Augment
from datamodules.transforms.colour import change_colour

HEIGHT, WIDTH = 48, 64


def bands(count):
    """Channel k holds 20 k + 10; the object at x 10 to 30, y 5 to 25, holds 100 more."""
    image = np.tile(np.arange(count, dtype=np.uint8) * 20 + 10, (HEIGHT, WIDTH, 1))
    image[5:25, 10:30] += 100
    return image


def write(path, image):
    if path.suffix == ".npy":
        np.save(path, image)
    elif image.shape[2] == 4:
        Image.fromarray(image, "RGBA").save(path)
    else:
        cv2.imwritemulti(str(path), list(np.moveaxis(image, 2, 0)))


def module(folder, *files, **options):
    images = [{"id": k, "file_name": name} for k, name in enumerate(files)]
    boxes = [{"image_id": k, "category_id": 1, "bbox": [10, 5, 20, 20]} for k in range(len(files))]
    data = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "car"}]}
    (folder / "a.json").write_text(json.dumps(data))
    options = {"num_workers": 0, "batch_size": 2, "image_size": (HEIGHT, WIDTH)} | options
    return CocoDataModule(folder, folder / "a.json", folder, folder / "a.json", **options)


@pytest.mark.parametrize(
    ("name", "count"), [("a.npy", 2), ("a.npy", 5), ("a.npy", 8), ("a.tif", 4), ("a.tif", 6)]
)
def test_all_channels_reach_the_batch(tmp_path, name, count):
    write(tmp_path / name, bands(count))
    data = module(tmp_path, name, channels=count)
    data.setup("fit")
    image = read_image(data.records["val"].images[0])
    np.testing.assert_array_equal(image, bands(count))
    batch = next(iter(data.val_dataloader()))
    np.testing.assert_array_equal(batch.images[0].permute(1, 2, 0), bands(count))
    augmented = next(iter(data.train_dataloader()))
    assert data.on_after_batch_transfer(augmented, 0).images.shape[1:] == (count, HEIGHT, WIDTH)


def test_augmentation_keeps_the_channels_apart(tmp_path):
    for k in range(4):
        write(tmp_path / f"{k}.npy", bands(5))
    augment = Augment(mosaic=1, mixup=1, copy_paste=1, brightness=0, contrast=0, saturation=0, hue=0)
    names = [f"{k}.npy" for k in range(4)]
    data = module(tmp_path, *names, channels=5, augment=augment, batch_size=4)
    data.setup("fit")
    images = next(iter(data.train_dataloader())).images.int()
    inside = images[:, 0] != 127  # no padding
    steps = (images[:, 1:] - images[:, :-1]).movedim(1, -1)[inside & (images[:, 4] != 127)]
    assert (steps - 20).abs().float().mean() < 2  # each channel 20 above the one before, at edges nearly


def test_sixteen_bits_and_one_band(tmp_path):
    np.save(tmp_path / "a.npy", bands(5).astype(np.uint16) * 256 + 7)
    data = module(tmp_path, "a.npy", channels=5)
    with pytest.warns(UserWarning, match="1 of 1 images hold 16 bits"):
        data.setup("validate")
    np.testing.assert_array_equal(read_image(data.records["val"].images[0]), bands(5))
    np.save(tmp_path / "b.npy", bands(1)[..., 0])
    np.testing.assert_array_equal(read_image_file(str(tmp_path / "b.npy")), np.repeat(bands(1), 3, axis=2))


def test_reduced(tmp_path):
    write(tmp_path / "a.npy", bands(5)[:47])
    data = module(tmp_path, "a.npy", channels=5, image_size=(12, 16), augment=Augment(scale=(0.5, 1.0)))
    data.setup("fit")
    images = data.train_dataloader().dataset.images
    assert images.reductions == [4]
    assert images[0].shape == images.shape(0) == (12, 16, 5)


@pytest.mark.parametrize(
    ("file", "channels", "message"),
    [
        (
            "a.npy",
            3,
            r"a\.npy has 5 channels, but data\.channels is 3: set it and model\.network\.in_channels to 5",
        ),
        ("a.npy", 4, r"a\.npy has 5 channels, but data\.channels is 4"),
        ("a.png", 4, r"a\.png has 3 channels, but data\.channels is 4"),
    ],
)
def test_other_channels_than_asked_for(tmp_path, file, channels, message):
    np.save(tmp_path / "a.npy", bands(5))
    Image.new("RGBA", (WIDTH, HEIGHT)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=message):
        module(tmp_path, file, channels=channels).setup("validate")
    with pytest.raises(
        ValueError, match=r"data\.channels must be 2 to 8, got 1: leave it out for grey images"
    ):
        module(tmp_path, file, channels=1)


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((9, 9, 9), np.uint8),
        np.zeros((9, 9), np.float32),
        np.zeros(9, np.uint8),
        np.zeros((0, 9), np.uint8),
    ],
)
def test_arrays_that_are_no_images(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=r"a\.npy is an array .*: it must be \(height, width\)"):
        module(tmp_path, "a.npy", channels=5).setup("validate")


def test_arrays_cut_short_or_of_objects(tmp_path):
    np.save(tmp_path / "a.npy", bands(5))
    (tmp_path / "a.npy").write_bytes((tmp_path / "a.npy").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"a\.npy is not a readable image"):
        module(tmp_path, "a.npy", channels=5).setup("validate")
    np.save(tmp_path / "a.npy", np.array([[{}]]), allow_pickle=True)  # never unpickled: that runs code
    with pytest.raises(DataError, match=r"a\.npy is not a readable image"):
        module(tmp_path, "a.npy", channels=5).setup("validate")


def test_colour_changes_of_bands_beside_rgb():
    images = torch.rand(2, 5, 6, 7, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.2
    hue = torch.tensor([[1, 1, 1.3, 0.1]] * 2)
    changed = change_colour(images, hue)
    torch.testing.assert_close(changed[:, :3], change_colour(images[:, :3], hue))
    torch.testing.assert_close(changed[:, 3:], images[:, 3:])
    brighter = change_colour(images[:, :2], torch.tensor([[1.2, 1, 1, 0.1]] * 2))
    torch.testing.assert_close(brighter, images[:, :2] * 1.2)


def test_what_is_shown_of_them():
    np.testing.assert_array_equal(as_rgb(bands(5)), bands(5)[..., :3])
    np.testing.assert_array_equal(as_rgb(bands(2)), np.repeat(bands(1), 3, axis=2))
