"""Samplers that know their epoch and their rank: which image comes when, as a function of the seed alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from torch.utils.data import Sampler


@dataclass(frozen=True, slots=True)
class Key:
    """What a training sample depends on, beside the seed and the other keys of its batch.

    Attributes:
        epoch: epoch, from 0.
        index: position of the image in its split.
        size: (H, W) of the batch that the sample is for.
    """

    epoch: int
    index: int
    size: tuple[int, int]


class TrainSampler(Sampler[Key]):
    """Shuffled keys of one rank, the same number on every rank.

    The epoch travels with the index, because persistent workers never see a change of their data set.
    Lightning calls `iter` before the first `set_epoch`, so the constructor takes the epoch too.

    Args:
        length: number of images.
        size: (H, W) of the batches.
        batch_size: images a batch and rank.
        seed: seed of the order.
        rank: this process's number.
        world_size: number of processes.
        epoch: first epoch.
        start_batch: batches of the first epoch that were seen before a resume.
    """

    def __init__(
        self,
        length: int,
        size: tuple[int, int],
        batch_size: int,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        epoch: int = 0,
        start_batch: int = 0,
    ) -> None:
        self.length, self.size, self.batch_size, self.seed = length, size, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self.epoch, self.start_batch = epoch, start_batch

    def set_epoch(self, epoch: int) -> None:
        """Move to an epoch; a new one starts at its first batch."""
        if epoch != self.epoch:
            self.epoch, self.start_batch = epoch, 0

    def __len__(self) -> int:
        """Keys of a whole epoch on this rank, whatever a resume skips."""
        whole_batches = self.length // (self.batch_size * self.world_size)
        # Whole batches only, so that every rank makes the same steps; a small set is one short batch.
        return whole_batches * self.batch_size or -(-self.length // self.world_size)

    def __iter__(self) -> Iterator[Key]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(self.length)
        shard = np.resize(order, len(self) * self.world_size)[self.rank :: self.world_size]
        for index in shard[self.start_batch * self.batch_size :]:
            yield Key(self.epoch, int(index), self.size)


class EvalSampler(Sampler[int]):
    """Every index exactly once over all ranks, in order and without padding; a shard may be empty."""

    def __init__(self, length: int, rank: int = 0, world_size: int = 1) -> None:
        self.indices = range(rank, length, world_size)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[int]:
        return iter(self.indices)
