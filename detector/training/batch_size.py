"""As many images a batch as fit into the memory, for `--data.batch_size=auto`."""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import psutil
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info

from datamodules.base import USUAL_BATCH, DetectionDataModule
from datamodules.batch import Batch
from detector.checkpoint import load_checkpoint
from detector.module import Detector

PROBES = (2, 4)
"""Images of the batches that are tried out; a batch of one has no statistics where maps have one cell."""

MOST = 64
"""Largest batch: beyond it an epoch has too few steps to learn as much, whatever the memory."""

SHARE = {"cpu": 0.6, "cuda": 0.85}
"""Share of the free memory that a step may take; on CPUs the loader's workers and its cache need theirs."""

CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says how much memory a job or container may take."""


class AutomaticBatch(Callback):
    """Tries out two small batches of the densest images when a training begins, and sets the size of all.

    The memory of a step is a constant and so much for each image; what fits into a share of the free memory
    is chosen, at most `MOST` and no more than there are training images, and on several ranks the smallest
    that any has room for. The learning rate, which is for batches of `USUAL_BATCH` images, is multiplied by
    the root of their ratio, as suits Adam. A run that goes on keeps its batch.

    Args:
        checkpoint: of the run that goes on, if one does.

    Source: Malladi et al. 2022, On the SDEs and Scaling Rules for Adaptive Gradient Algorithms.
    """

    def __init__(self, checkpoint: str | None = None) -> None:
        self.checkpoint = checkpoint

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Set `batch_size` of the data module, and `lr_scale` of the detector.

        Raises:
            ValueError: not even one image fits.
        """
        data: DetectionDataModule = trainer.datamodule  # type: ignore[attr-defined]  # set by fit(datamodule=...)
        assert isinstance(pl_module, Detector)
        if stage != "fit":
            return
        if self.checkpoint is None:
            size, why = self._choose(trainer, pl_module, data)
        else:
            state = load_checkpoint(self.checkpoint)[type(data).__qualname__]
            size, why = max(state["images_a_step"] // trainer.world_size, 1), "as before in this run"
        pl_module.lr_scale = math.sqrt(size / USUAL_BATCH)
        if data.val_batch_size == data.batch_size:
            data.val_batch_size = size  # an evaluation keeps nothing for a backward pass
        data.batch_size = size
        rank_zero_info(
            f"data.batch_size=auto: {size} images a batch and device ({why}); learning rate times "
            f"{pl_module.lr_scale:.2f}, the root of {size}/{USUAL_BATCH}"
        )

    def _choose(self, trainer: Trainer, model: Detector, data: DetectionDataModule) -> tuple[int, str]:
        device = trainer.strategy.root_device
        free = free_memory(device) // (trainer.num_devices if device.type == "cpu" else 1)
        budget = SHARE.get(device.type, SHARE["cpu"]) * free
        batches = [data.densest_batch(images) for images in PROBES]
        probe = copy.deepcopy(model).to(device)
        probe.train()
        with torch.random.fork_rng(), trainer.precision_plugin.forward_context():
            peaks = peak_memory([partial(_step, probe, batch) for batch in batches], device)
        # Averaged weights and two moments of the optimizer come later.
        fixed, each = line(peaks, PROBES)
        fixed += 3 * sum(p.nbytes for p in model.network.parameters())
        mine = torch.tensor(math.floor((budget - fixed) / each), device=device)
        fits = int(trainer.strategy.reduce(mine, reduce_op="min"))
        density = len(batches[0].boxes) // PROBES[0]
        height, width = batches[0].images.shape[-2:]
        facts = (
            f"{each / 2**20:.0f} MB for each image of {height} x {width} px with {density} objects and "
            f"{fixed / 2**20:.0f} MB beside, {budget / 2**30:.1f} of {free / 2**30:.1f} GB free"
        )
        if fits < 1:
            raise ValueError(
                f"data.batch_size=auto: no image fits into the memory ({facts}): use a smaller "
                "data.image_size, --model.checkpoint_activations=true, or a smaller network"
            )
        return largest(fits, len(data.records["train"].images)), f"{facts}, {fits} would fit"


def largest(fits: int, images: int) -> int:
    """The batch to take: a multiple of 8 where that is possible, at most `MOST`.

    Args:
        fits: images that the memory has room for.
        images: training images.
    """
    size = min(fits, MOST, images)
    return size - size % 8 if size > 8 else size


def line(peaks: Sequence[int], images: tuple[int, int]) -> tuple[float, float]:
    """Bytes beside images and bytes of each image, from the peaks of two batches.

    Args:
        peaks: bytes of the smaller and the larger batch.
        images: numbers of their images.
    """
    each = (peaks[1] - peaks[0]) / (images[1] - images[0])
    if each <= 0:  # memory that was free already served the larger one
        each = max(peaks[1], 1) / images[1]
    return max(peaks[0] - each * images[0], 0.0), each


def free_memory(device: torch.device) -> int:
    """Bytes that this process may still take, of a GPU, or of the machine within the limit of a job."""
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + kept
    free: int = psutil.virtual_memory().available
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if limit.is_file() and used.is_file() and limit.read_text().strip().isdigit():
        free = min(free, max(int(limit.read_text()) - int(used.read_text()), 0))
    return free


def peak_memory(works: Sequence[Callable[[], object]], device: torch.device) -> list[int]:
    """Bytes that each of some works takes at most, beyond what is there before the first.

    On a GPU what torch allocates; elsewhere the resident memory of the process, looked at every millisecond.
    There the heap keeps what one work has freed for the next, so that this counts for all of them.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        return [_peak_of_gpu(work, device) - before for work in works]
    before = psutil.Process().memory_info().rss
    return [_peak_of_process(work) - before for work in works]


def _peak_of_gpu(work: Callable[[], object], device: torch.device) -> int:
    torch.cuda.reset_peak_memory_stats(device)
    work()
    return torch.cuda.max_memory_allocated(device)


def _peak_of_process(work: Callable[[], object]) -> int:
    process, done = psutil.Process(), threading.Event()
    peak: int = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(1e-3):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return int(max(peak, process.memory_info().rss))


def _step(model: Detector, batch: Batch) -> None:
    """Forward, losses and backward of a detector that is thrown away."""
    batch = batch.to(model.device)
    predictions = model(batch.images)
    total = model._losses(predictions, batch)[0]["loss"]
    if predictions.auxiliary is not None:
        total = total + model._losses(predictions.auxiliary, batch)[0]["loss"]
    total.backward()
    model.zero_grad()
