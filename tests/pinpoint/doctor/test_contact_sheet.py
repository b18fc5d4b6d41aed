from contextlib import ExitStack

import cv2
import numpy as np
import pytest
from full_disk import full_disk

from datamodules.drawing import GREY, HATCH, class_colour, draw_boxes, hatch_boxes
from datamodules.transforms.augment import Augment
from pinpoint.doctor import contact_sheet
from pinpoint.doctor.contact_sheet import draw_sheet, main

SCENES = [
    "--data=ScenesDataModule",
    *("--data.train_count=5", "--data.val_count=1", "--data.scene_size=[96,96]", "--data.image_size=[64,80]"),
    *("--data.batch_size=2", "--data.num_workers=0"),
]


def test_boxes_are_drawn_on_their_first_and_last_pixels():
    image = np.zeros((20, 30, 3), dtype=np.uint8)
    draw_boxes(image, np.array([[2, 3, 12, 9]], dtype=np.float32), np.array([1]))
    ys, xs = np.nonzero((image == class_colour(1)).all(axis=2))
    assert (xs.min(), ys.min(), xs.max(), ys.max()) == (2, 3, 11, 8)
    assert len(xs) == 2 * 10 + 2 * 6 - 4  # the outline alone
    assert class_colour(1) != class_colour(2)


def test_ignore_boxes_are_hatched():
    image = np.zeros((40, 40, 3), dtype=np.uint8)
    hatch_boxes(image, np.array([[0, 0, 40, 40], [50, 50, 60, 60]], dtype=np.float32))
    assert (image[HATCH, 0] == GREY).all()
    rows, columns = np.nonzero(image[1:-1, 1:-1, 0])
    assert ((rows + columns + 2) % HATCH == 0).all()


def test_command_writes_a_picture(tmp_path, capsys):
    output = tmp_path / "sheet.png"
    main([*SCENES, f"--data.root={tmp_path / 'scenes'}", "--output", str(output), "--count", "4"])
    # Four samples of 64 x 80, four pixels apart, two by two, above two lines of legend.
    height, width, _ = cv2.imread(str(output)).shape
    assert (width, height) == (2 * 84, 2 * 68 + 44)
    assert "168x180 pixels" in capsys.readouterr().out


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    with ExitStack() as stack:

        def draw(module, count):
            stack.enter_context(full_disk())
            return np.zeros((64, 80, 3), np.uint8)

        monkeypatch.setattr(contact_sheet, "draw_sheet", draw)
        with pytest.raises(OSError, match=r"sheet\.png'"):
            main([*SCENES, f"--data.root={tmp_path / 'scenes'}", "--output", str(tmp_path / "sheet.png")])
    assert not (tmp_path / "sheet.png").exists()


def test_a_sheet_too_large_for_its_format(tmp_path, monkeypatch):
    monkeypatch.setattr(contact_sheet, "draw_sheet", lambda *_: np.zeros((2, 66_000, 3), np.uint8))
    with pytest.raises(ValueError, match=r"sheet\.jpg cannot hold so large a picture: give a \.png file"):
        main([*SCENES, f"--data.root={tmp_path / 'scenes'}", "--output", str(tmp_path / "sheet.jpg")])


def test_sheet_shows_what_the_network_sees(coco_folder):
    # No augmentation: the first sample's own pixels, but for its box.
    colour = dict.fromkeys(("brightness", "contrast", "saturation", "hue"), 0)
    augment = Augment(flip=0, scale=(1, 1), translate=0, mosaic=0, **colour)
    module = coco_folder.module(augment=augment, image_size=(48, 64))
    module.setup("fit")
    sheet = draw_sheet(module, 1)
    first = next(iter(module.train_dataloader())).images[0].permute(1, 2, 0).numpy()
    different = (sheet[:48, :64] != first).any(axis=2)
    assert 0 < different.sum() <= 2 * 20 + 2 * 10 - 4
    assert different[10, 10:30].sum() > 15  # the upper side of the box 10, 10, 30, 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--output", "sheet.nothing"], "cannot be written"),
        (["--output", "no/such/folder/sheet.png"], "cannot be written"),
        (["--count", "0"], "--count must be at least 1"),
        (["--data.augment.flip=2"], "augment.flip"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(ValueError, match=message):
        main([*SCENES, *arguments])
