"""Samplers that know their epoch and their rank: which image comes when, as a function of the seed alone.

n images of a split, N batches of an epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from datamodules.batch import Key
from datamodules.records import Record

STRIDE = 32
"""Pixels; canvases that vary have sides of multiples of it, the largest stride of the networks."""


@dataclass(frozen=True)
class Sampling:
    """How often training images come, and how large their batches are; by default each once, at one size.

    Args:
        repeat_threshold: show images more often that hold a rare class, one that less than this share of the
            images hold: sqrt(repeat_threshold / share) times an epoch, by their rarest class. In (0, 1].
        background: wanted share of images without objects, in [0, 1). An epoch shows the other images as
            often as it would without this option, and of those without objects a random part, or all of them
            repeatedly, to make up the share; so it gets shorter or longer. None leaves them as they are.
        rectangular: make batches of images of similar aspect ratio, on a canvas of that ratio, of about the
            area of image_size, with sides of multiples of 32 pixels; in evaluation too, as objects shall have
            the size there that they are trained at.
        multi_scale: smallest and largest factor of the sides of a batch's canvas, drawn log-uniformly for
            every batch; the sides become multiples of 32 pixels. Memory must suffice for the largest.

    Source: Gupta et al. 2019, LVIS, appendix (repeat factor sampling; 0.001 there).
    """

    repeat_threshold: float | None = None
    background: float | None = None
    rectangular: bool = False
    multi_scale: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        """Check the ranges.

        Raises:
            ValueError: if a parameter lies outside its range.
        """
        if self.repeat_threshold is not None and not 0 < self.repeat_threshold <= 1:
            raise ValueError(f"sampling.repeat_threshold must lie in (0, 1], got {self.repeat_threshold}")
        if self.background is not None and not 0 <= self.background < 1:
            raise ValueError(f"sampling.background must lie in [0, 1), got {self.background}")
        if self.multi_scale is not None and not 0 < self.multi_scale[0] <= self.multi_scale[1] < math.inf:
            raise ValueError(
                "sampling.multi_scale must be two factors, 0 < smallest <= largest, got "
                f"{list(self.multi_scale)}"
            )

    def factors(self, labels: Sequence[NDArray[np.int64]]) -> NDArray[np.float64]:
        """How often each image comes in an epoch, on average.

        Args:
            labels: class indices of the objects of each image, n of them.

        Returns:
            (n,) >= 0.

        Raises:
            ValueError: if the wanted share of background cannot be had.
        """
        factors = np.ones(len(labels))
        if self.repeat_threshold is not None:
            factors = repeat_factors(labels, self.repeat_threshold)
        if self.background is not None:
            empty = np.array([len(objects) == 0 for objects in labels])
            if empty.all() or (self.background > 0 and not empty.any()):
                raise ValueError(
                    f"data.sampling.background is {self.background}, but {empty.sum()} of the {len(labels)} "
                    "training images are without objects: leave it out, or add images of the other kind"
                )
            wanted = factors[~empty].sum() * self.background / (1 - self.background)
            factors[empty] = wanted / max(empty.sum(), 1)
        return factors


DEFAULT_SAMPLING = Sampling()


def repeat_factors(labels: Sequence[NDArray[np.int64]], threshold: float) -> NDArray[np.float64]:
    """Repeat factor of each image: the largest max(1, sqrt(threshold / share)) of its classes.

    Args:
        labels: class indices of the objects of each image, n of them.
        threshold: share of the images below which a class is rare.

    Returns:
        (n,) >= 1; 1 for an image without objects.
    """
    objects = np.concatenate(labels)
    holds = np.zeros((len(labels), objects.max(initial=0) + 1), dtype=np.bool_)
    holds[np.repeat(np.arange(len(labels)), [len(own) for own in labels]), objects] = True
    image, label = holds.nonzero()  # each class of an image once
    factors = np.ones(len(labels))
    np.maximum.at(factors, image, np.sqrt(threshold / holds.mean(axis=0)[label]))
    return factors


def round_at_random(factors: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.int64]:
    """Round each factor up or down at random, so that its mean stays and the sum hardly varies.

    Systematic sampling: the fractional parts lie end to end along a line, in random order, and every whole
    number, shifted by one random offset, rounds up the factor that it falls on.

    Args:
        factors: (n,) >= 0.
        rng: source of the randomness; whole numbers alone draw nothing from it.

    Returns:
        (n,) counts, whose sum is that of the factors, rounded up or down.
    """
    counts = np.floor(factors).astype(np.int64)
    fractional = np.flatnonzero(factors > counts)
    if len(fractional):
        order = rng.permutation(fractional)
        ends = np.floor((factors - counts)[order].cumsum() + rng.random()).astype(np.int64)
        counts[order] += np.diff(ends, prepend=0)
    return counts


def canvases(sizes: NDArray[np.int64], area: float) -> NDArray[np.int64]:
    """Canvases of the images' aspect ratios and of about the same area.

    Args:
        sizes: (n, 2) height and width of images.
        area: wanted area in square pixels.

    Returns:
        (n, 2) height and width, multiples of `STRIDE`; the height alone determines the width.
    """
    height = whole_strides(np.sqrt(area * sizes[:, 0] / sizes[:, 1]).clip(STRIDE, area / STRIDE))
    return np.stack((height, whole_strides(area / height)), axis=1)


def whole_strides(sides: NDArray[np.floating]) -> NDArray[np.int64]:
    """Nearest positive multiples of `STRIDE`."""
    return STRIDE * np.rint(sides / STRIDE).astype(np.int64).clip(1)


class TrainSampler(Sampler[Key]):
    """Shuffled keys of one rank, the same number on every rank and in every epoch.

    The epoch travels with the index, because persistent workers never see a change of their data set.
    Lightning calls `iter` before the first `set_epoch`, so the constructor takes the epoch too. Ranks draw
    the same epoch and take every `world_size`-th key of it, so their batches of one step share a size.

    Args:
        images: the images, n of them.
        size: (H, W) of the batches.
        batch_size: images a batch and rank.
        seed: seed of the order.
        rank: this process's number.
        world_size: number of processes.
        epoch: first epoch.
        start_batch: batches of the first epoch that were seen before a resume.
        sampling: how often images come, and how the size varies.

    Raises:
        ValueError: if the wanted share of background cannot be had.
    """

    def __init__(
        self,
        images: Sequence[Record],
        size: tuple[int, int],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
        start_batch: int = 0,
        sampling: Sampling = DEFAULT_SAMPLING,
    ) -> None:
        self.size, self.seed, self.sampling = size, seed, sampling
        self.rank, self.world_size = rank, world_size
        self.epoch, self.start_batch = epoch, start_batch
        self.factors = sampling.factors([image.annotations.labels for image in images])
        # An epoch draws this many images, or one more. A sum of fractions may fall short of a whole number by
        # its last digits.
        drawn = math.floor(round(float(self.factors.sum()), 6))
        # Whole batches only, so that every rank makes the same steps; a small set is one short batch.
        self.batches = max(drawn // (batch_size * world_size), 1)
        self.batch_size = min(batch_size, -(-drawn // world_size))
        if sampling.rectangular:
            self.canvases = canvases(np.array([image.info.size for image in images]), size[0] * size[1])

    def set_epoch(self, epoch: int) -> None:
        """Move to an epoch; a new one starts at its first batch."""
        if epoch != self.epoch:
            self.epoch, self.start_batch = epoch, 0

    @property
    def largest_sizes(self) -> list[tuple[int, int]]:
        """Every (H, W) that batches may have, at its largest."""
        sizes = np.unique(self.canvases, axis=0) if self.sampling.rectangular else np.array([self.size])
        if self.sampling.multi_scale is not None:
            sizes = whole_strides(sizes * self.sampling.multi_scale[1])
        return [(height, width) for height, width in sizes.tolist()]

    def __len__(self) -> int:
        """Keys of a whole epoch on this rank, whatever a resume skips."""
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[Key]:
        """Draw the whole epoch, the same on all ranks, and yield what is this rank's and not yet seen."""
        rng = np.random.default_rng([self.seed, self.epoch])
        counts = round_at_random(self.factors, rng)
        image = np.repeat(np.arange(len(counts)), counts)
        copy = np.arange(len(image)) - (counts.cumsum() - counts)[image]
        # (N, images of all ranks) positions in `image`: what the epoch has no room for waits for another one,
        # what it lacks is taken twice.
        order = np.resize(rng.permutation(len(image)), (self.batches, self.batch_size * self.world_size))
        sizes = np.tile(self.size, (self.batches, 1))  # (N, 2)
        if self.sampling.rectangular:
            # Images of one canvas stay in random order. A batch at the border of two takes the canvas of its
            # middle image, so none is left over.
            by_canvas = self.canvases[image[order.ravel()], 0].argsort(kind="stable")
            order = order.ravel()[by_canvas].reshape(order.shape)[rng.permutation(self.batches)]
            sizes = self.canvases[image[order[:, order.shape[1] // 2]]]
        if self.sampling.multi_scale is not None:
            low, high = np.log(self.sampling.multi_scale)
            sizes = whole_strides(sizes * np.exp(rng.uniform(low, high, (self.batches, 1))))
        for batch, (height, width) in zip(
            order[self.start_batch :, self.rank :: self.world_size],
            sizes[self.start_batch :].tolist(),
            strict=True,
        ):
            for index, number in zip(image[batch].tolist(), copy[batch].tolist(), strict=True):
                yield Key(self.epoch, index, (height, width), number)


class EvalSampler(Sampler[int]):
    """Every index exactly once over all ranks, in order and without padding; a shard may be empty.

    An empty shard says that it has one, as Lightning would pass over the evaluation on that rank alone, while
    the others wait to gather with it.
    """

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, length, world_size)

    def __len__(self) -> int:
        return max(len(self.indices), 1)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)


class RectangularEvalSampler(Sampler[list[Key]]):
    """Batches of every image exactly once over all ranks, each on the canvas of its own aspect ratio.

    No batch holds two canvases, so what is found in an image depends neither on batch size nor on ranks. An
    empty shard says that it has a batch, see `EvalSampler`.

    Args:
        images: the images.
        size: (H, W), of which the canvases have the area.
        batch_size: most images of a batch.
        rank: this process's number.
        world_size: number of processes.
    """

    def __init__(
        self,
        images: Sequence[Record],
        size: tuple[int, int],
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        shapes = canvases(np.array([image.info.size for image in images]), size[0] * size[1]).tolist()
        by_canvas: dict[tuple[int, int], list[Key]] = {}
        for index in range(rank, len(images), world_size):
            height, width = shapes[index]
            by_canvas.setdefault((height, width), []).append(Key(0, index, (height, width)))
        self.batches = [
            keys[start : start + batch_size]
            for _, keys in sorted(by_canvas.items())
            for start in range(0, len(keys), batch_size)
        ]

    def __len__(self) -> int:
        return max(len(self.batches), 1)

    def __iter__(self) -> Iterator[list[Key]]:
        return iter(self.batches)
