"""What a training sample takes from its batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datamodules.batch import Key, Sample
from datamodules.transforms.augment import Augment, draw_zoom, jitter, show_scale
from datamodules.transforms.geometry import FILL, compose
from datamodules.transforms.mosaic import mixup, mosaic, partners
from datamodules.transforms.paste import Source, paste_objects


@dataclass(frozen=True, slots=True)
class Partner:
    """Another image of the batch that takes part in a sample.

    Attributes:
        position: its position in the batch.
        rng: generator of what is done with it.
    """

    position: int
    rng: np.random.Generator


@dataclass(frozen=True, slots=True)
class Plan:
    """Choices for one training sample.

    Attributes:
        size: (H, W) of the canvas.
        rng: the sample's generator, as far as it was used for the plan.
        tile: whether its images come at their original scale.
        members: positions in the batch of the images on the canvas: its own, or the four of a mosaic.
        paste: the image beside its own from which objects are pasted, if any.
        mixup: the image that is blended in, if any.
    """

    size: tuple[int, int]
    rng: np.random.Generator
    tile: bool
    members: Sequence[int]
    paste: Partner | None
    mixup: Partner | None


def draw_plan(augment: Augment, seed: int, key: Key, own: int, count: int, closed: bool) -> Plan:
    """Draw the plan of one sample.

    Each change has its own stream of random numbers, so that switching one on changes no sample that it
    does not touch.

    Args:
        augment: probabilities.
        seed: seed of the random changes.
        key: the sample's key.
        own: its position in the batch.
        count: number of images in the batch.
        closed: whether mosaic, mixup and copy-paste are over.
    """
    rng = np.random.default_rng([seed, key.epoch, key.index, key.copy])
    has_mosaic = rng.random() < (0 if closed else augment.mosaic)
    members = [own, *(partners(count, own, rng) if has_mosaic else [])]

    def stream(number: int) -> np.random.Generator:
        return np.random.default_rng([seed, key.epoch, key.index, key.copy, number])

    def partner(probability: float, number: int) -> Partner | None:
        if closed or not probability:
            return None
        rng = stream(number)
        return Partner(partners(count, own, rng, 1)[0], rng) if rng.random() < probability else None

    return Plan(
        size=key.size,
        rng=rng,
        tile=augment.tile > 0 and stream(1).random() < augment.tile,
        members=members,
        paste=partner(augment.copy_paste, 2),
        mixup=partner(augment.mixup, 3),
    )


def apply_plan(plan: Plan, images: Sequence[Sample], augment: Augment, fill: int = FILL) -> Sample:
    """Make the sample that a plan describes, all but its finish.

    Args:
        plan: the choices.
        images: the decoded images of the batch.
        augment: ranges.
        fill: grey level where no image lies.
    """
    members = [images[position] for position in plan.members]
    if len(members) > 1:
        placements = mosaic(members, plan.size, augment, plan.rng, plan.tile)
    else:
        placements = [jitter(members[0], plan.size, augment, plan.rng, plan.tile)]
    sample = compose(members, placements, plan.size, augment.min_visibility, fill)
    if plan.paste:
        rng, partner = plan.paste.rng, images[plan.paste.position]
        scale = show_scale(partner, plan.size, plan.tile) * draw_zoom(augment, rng)
        sources = [Source(members[0], placements[0].scale[0]), Source(partner, scale)]
        windows = np.array([placement.target for placement in placements])
        sample = paste_objects(sample, windows, sources, augment.flip, rng)
    if plan.mixup:
        rng, partner = plan.mixup.rng, images[plan.mixup.position]
        placement = jitter(partner, plan.size, augment, rng, plan.tile)
        sample = mixup(sample, compose([partner], [placement], plan.size, augment.min_visibility, fill), rng)
    return sample
