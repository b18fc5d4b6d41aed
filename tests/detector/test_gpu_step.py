"""A whole training step on a GPU: how often the host waits for it."""

import copy
import warnings

import pytest
import torch
from torch import nn

from datamodules.batch import Batch, ImageInfo
from detector.assigner import TaskAlignedAssigner, assignment_statistics, points_in_boxes
from detector.averaging import move, pair
from detector.graphs import Replayed
from detector.networks.network import Network
from losses.detection import DetectionLoss


def batch_of(images: int, seed: int) -> Batch:
    """Noise of 64 px with two objects and one ignored region an image, in pinned memory on the CPU."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(2 * images, 2, generator=generator) * 40
    index = torch.arange(images)
    batch = Batch(
        images=torch.rand(images, 3, 64, 64, generator=generator),
        boxes=torch.cat((low, low + 4 + torch.rand(2 * images, 2, generator=generator) * 20), 1),
        labels=torch.randint(2, (2 * images,), generator=generator),
        image_index=index.repeat_interleave(2),
        ignore_boxes=torch.tensor([[0.0, 0, 20, 20]]).repeat(images, 1),
        ignore_index=index,
        infos=[ImageInfo(i, f"{i}.png", (64, 64)) for i in range(images)],
    )
    return batch.pin_memory()


@pytest.mark.gpu
@pytest.mark.parametrize("graphs", [False, True])
def test_a_step_waits_once(graphs: bool) -> None:
    network = Network(2, (64, 64), "mobilenetv4_conv_small_050", strides=(8, 16), channels=16).cuda()
    pairs = pair(copy.deepcopy(network), network)
    run = Replayed(network) if graphs else network
    assigner, criterion = TaskAlignedAssigner(), DetectionLoss().cuda()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)

    def step(batch: Batch) -> None:
        batch = batch.to("cuda")
        with torch.autocast("cuda", torch.bfloat16):
            said = run(batch.images)
            with torch.no_grad():
                assignment = assigner(
                    said.logits.float().sigmoid(),
                    said.boxes(),
                    said.points,
                    said.strides,
                    batch.boxes,
                    batch.labels,
                    batch.image_index,
                    levels=said.levels,
                    host=batch.host_objects,
                )
            ignored = points_in_boxes(
                batch.ignore_boxes,
                batch.ignore_index,
                said.points,
                said.strides,
                levels=said.levels,
                host=batch.host_ignored,
                repeated=True,
            )
            loss = criterion(said, assignment, batch.boxes, batch.labels, ignored)["loss"]
        assignment_statistics(assignment, batch.boxes)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()
        for averages, currents in pairs:
            move(averages, currents, 0.1)

    batches = [batch_of(3, seed) for seed in range(4)]
    for batch in batches[:2]:  # makes optimizer states, records graphs
        step(batch)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for batch in batches[2:]:
                step(batch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [str(warning.message) for warning in caught if "synchroniz" in str(warning.message)]
    assert len(waits) == 2, waits  # a step: how many positives there are


@pytest.mark.gpu
def test_a_batch_on_a_gpu_keeps_its_boxes_on_the_host() -> None:
    batch = batch_of(2, 0)
    moved = batch.to("cuda")
    assert moved.boxes.is_cuda
    assert moved.host_objects[0] is batch.boxes
    assert moved.host_ignored[1] is batch.ignore_index
    assert torch.equal(moved.boxes.cpu(), batch.boxes)
