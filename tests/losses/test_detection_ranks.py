"""The total loss over several ranks: the gradient of one process."""

import os
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from detection_cases import (
    BOX_NAMES,
    CLASS_NAMES,
    GRID,
    SIZE_AWARE,
    FakeAssignment,
    FakePredictions,
    gradients,
    scene,
)

from losses.detection import DetectionLoss
from losses.regression import WiseIoUV2Loss, WiseIoUV3Loss

# Ranks.

VARIANTS = [
    *((name, "bce") for name in BOX_NAMES),
    *((cls.__name__, "bce") for cls in SIZE_AWARE),
    *(("ciou", name) for name in CLASS_NAMES),
]


def build(box: str, classification: str) -> DetectionLoss:
    """A loss by name; the class name of a size-aware loss stands for its uncalibrated form."""
    tuned = {
        **{cls.__name__: cls(calibrated=False) for cls in SIZE_AWARE},
        "wise_iou_v2": WiseIoUV2Loss(half_life=1),  # a short memory, so that a step shows in the running mean
        "wise_iou_v3": WiseIoUV3Loss(half_life=1),
    }
    return DetectionLoss(tuned.get(box, box), classification, class_weights=(0.5, 1, 2))


def image_of(arguments, image):
    """The part of a scene that belongs to one image."""
    predictions, assignment, gt_boxes, gt_labels, ignored = arguments
    a = GRID * GRID
    mine, its_ignored = assignment.point // a == image, ignored[ignored // a == image]
    return (
        FakePredictions(
            predictions.logits[image : image + 1].detach().requires_grad_(),
            predictions.distances[image : image + 1].detach().requires_grad_(),
        ),
        FakeAssignment(assignment.point[mine] - image * a, assignment.object[mine], assignment.score[mine]),
        gt_boxes,
        gt_labels,
        its_ignored - image * a,
    )


SCENES = {"uneven": (9, 3), "one rank without": (9, 0)}


def rank_gradients(rank: int, rendezvous: str, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{rendezvous}", timeout=timedelta(seconds=60), rank=rank, world_size=2
    )
    results = {}
    for key, positives in SCENES.items():
        for variant in VARIANTS:
            loss = build(*variant)
            if rank == 0:  # one more validation batch than the other rank has
                with torch.no_grad():
                    loss.eval()(*image_of(scene(seed=1), rank))
            loss.train()
            found = gradients(loss, image_of(scene(positives=positives), rank))
            results[key, variant] = found, loss.state_dict()
    torch.save(results, os.path.join(folder, f"rank{rank}.pt"))
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def results_by_rank(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(rank_gradients, (str(folder / "rendezvous"), str(folder)), nprocs=2)
    return [torch.load(folder / f"rank{rank}.pt", weights_only=False) for rank in range(2)]


@pytest.mark.parametrize("key", SCENES)
@pytest.mark.parametrize("variant", VARIANTS, ids="-".join)
def test_two_processes_have_the_gradient_of_one(results_by_rank, key, variant):
    loss = build(*variant)
    single = gradients(loss, scene(positives=SCENES[key]))
    for rank, results in enumerate(results_by_rank):
        (logits, distances), state = results[key, variant]
        # DDP averages over ranks; a rank's image has a gradient on that rank alone.
        torch.testing.assert_close(logits[0] / 2, single[0][rank], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(distances[0] / 2, single[1][rank], rtol=1e-4, atol=1e-7)
        torch.testing.assert_close(state, loss.state_dict())  # Wise-IoU's running mean
