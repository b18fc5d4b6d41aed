"""Colours change on the device, image by image."""

import numpy as np
import torch
from transform_cases import sample

from datamodules.batch import collate
from datamodules.transforms.colour import change_colour, to_float
from datamodules.transforms.geometry import letterbox

# ------------------------------------------------------------------------------------------------ colour


def test_evaluation_only_converts_to_float():
    batch = collate([letterbox(sample(image=np.full((8, 8, 3), 51, dtype=np.uint8)), (8, 8))])
    result = to_float(batch)
    assert result.images.dtype == torch.float32
    torch.testing.assert_close(result.images, torch.full((1, 3, 8, 8), 0.2))


def test_colours_by_hand():
    images = torch.tensor([[0.2, 0.4, 0.6], [0.3, 0.3, 0.3]]).reshape(2, 3, 1, 1).repeat(1, 1, 2, 2)

    def change(brightness=1.0, contrast=1.0, saturation=1.0, hue=0.0):
        return change_colour(images, torch.tensor([[brightness, contrast, saturation, hue]] * 2))[:, :, 0, 0]

    torch.testing.assert_close(change(), images[:, :, 0, 0])
    torch.testing.assert_close(change(brightness=0.5)[0], torch.tensor([0.1, 0.2, 0.3]))
    # Without saturation only the mean 0.4 is left.
    torch.testing.assert_close(change(saturation=0)[0], torch.tensor([0.4, 0.4, 0.4]))
    # A third of a turn moves red to green, green to blue, blue to red.
    torch.testing.assert_close(change(hue=1 / 3)[0], torch.tensor([0.6, 0.2, 0.4]))
    # Contrast 1.5 about the mean 0.4: 0.4 - 0.3, 0.4, 0.4 + 0.3.
    torch.testing.assert_close(change(contrast=1.5)[0], torch.tensor([0.1, 0.4, 0.7]))
    # A grey image stays grey whatever hue and saturation do.
    torch.testing.assert_close(change(saturation=1.4, hue=0.3)[1], torch.tensor([0.3, 0.3, 0.3]))


def test_colours_are_applied_image_by_image_and_stay_in_range():
    images = torch.rand(3, 3, 6, 5, generator=torch.Generator().manual_seed(0))
    colour = torch.tensor([[1.5, 0.8, 1.3, 0.1], [0.7, 1.9, 0.5, -0.2], [1.0, 1.0, 1.0, 0.0]])
    together = change_colour(images, colour)
    alone = torch.cat([change_colour(images[i : i + 1], colour[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(together[2], images[2])
    assert together.min() >= 0
    assert together.max() <= 1
