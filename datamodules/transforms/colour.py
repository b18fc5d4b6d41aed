"""Colours of training samples: changed on the device, for a whole batch at once.

B images of a batch, H and W sides of the canvas.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from datamodules.batch import Batch


def to_float(batch: Batch) -> Batch:
    """Convert images to float32 in [0, 1] and apply the colour changes that the samples drew."""
    images = batch.images.float().div_(255)
    if batch.colour is not None:
        images = change_colour(images, batch.colour)
    return replace(batch, images=images, colour=None)


def change_colour(images: Tensor, colour: Tensor) -> Tensor:
    """Change hue, saturation, brightness and contrast of each image.

    Hue is a rotation about the grey axis, so grey pixels stay grey. Contrast is about the image's mean. Bands
    beside RGB, such as thermal ones, take part in brightness and contrast alone; so do images without RGB.

    Args:
        images: (B, C, H, W) float in [0, 1]; the first three channels are RGB.
        colour: (B, 4) brightness, contrast and saturation factors, and hue shift in turns.

    Returns:
        (B, C, H, W) in [0, 1].
    """
    brightness, contrast, saturation, hue = colour.to(images).unbind(1)
    # Made where they are used: a copy to a GPU would be waited for.
    eye = torch.eye(3, dtype=images.dtype, device=images.device)
    grey = torch.full_like(eye, 1 / 3)  # projection onto the grey axis
    cross = (eye.roll(2, 1) - eye.roll(1, 1)) / 3**0.5  # 0 -1 1, 1 0 -1, -1 1 0
    angle = (2 * torch.pi * hue)[:, None, None]
    # Rodrigues' rotation about (1, 1, 1) / sqrt 3; saturation scales its part across the axis.
    across = angle.cos() * (eye - grey) + angle.sin() * cross
    rgb = brightness[:, None, None] * (grey + saturation[:, None, None] * across)
    channels = images.shape[1]
    matrix = rgb
    if channels != 3:
        matrix = brightness[:, None, None] * torch.eye(channels, dtype=images.dtype, device=images.device)
        if channels > 3:
            matrix[:, :3, :3] = rgb
    # All of it is one affine map of the three channels, so the pixels are passed over only once.
    flat = images.flatten(2)
    contrast = contrast[:, None, None]
    mean = (matrix @ flat.mean(dim=2, keepdim=True)).mean(dim=1, keepdim=True)
    return torch.baddbmm((1 - contrast) * mean, contrast * matrix, flat).clamp_(0, 1).view_as(images)
