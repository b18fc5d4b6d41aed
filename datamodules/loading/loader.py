"""The `DataLoader` of a split: how many workers read, how each starts, and the way of its batches."""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Any

import cv2
import torch
from torch.utils.data import DataLoader

from datamodules.batch import Sample
from datamodules.freed_memory import keep_freed_memory
from datamodules.loading.dataset import DetectionDataset
from datamodules.loading.handover import Handover


def make_loader(
    dataset: DetectionDataset, num_workers: int, pixels: int, **batches: Any
) -> DataLoader[Sample]:
    """Make the loader of one split for one device.

    Args:
        dataset: samples by key.
        num_workers: processes that read.
        pixels: of all images of the largest batch.
        **batches: sampler and batch size, or batch sampler.
    """
    return DataLoader(
        dataset,
        **batches,
        num_workers=num_workers,
        collate_fn=Handover(num_workers, dataset.records[0].bands * pixels),
        pin_memory=torch.cuda.is_available(),
        persistent_workers=num_workers > 0,
        worker_init_fn=_start_worker,
    )


def default_workers(images: int, batch_size: int, local_ranks: int) -> int:
    """Worker processes for one loader: one CPU of this rank's share is left to the training process.

    Args:
        images: images that the loader reads an epoch.
        batch_size: images a batch.
        local_ranks: training processes on this machine.
    """
    if images <= 2 * batch_size:
        return 0  # starting processes takes longer than reading
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min(cpus // local_ranks - 1, 8), 0)


def _start_worker(worker: int) -> None:
    _leave_signals_to_the_trainer()
    cv2.setNumThreads(0)  # the workers are the parallelism
    keep_freed_memory(1 << 29, 1 << 25)  # to get it anew for each batch took a tenth of the time


def _leave_signals_to_the_trainer() -> None:
    """Go on when a signal comes to all processes of a run: the trainer finishes its step, for which it reads.

    The next SIGTERM ends the worker: it is the trainer's own, to one that hangs.
    """

    def on_sigterm(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)

    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, on_sigterm)
