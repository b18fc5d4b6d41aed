"""Scores a split in tiles, or other views, beside its images as a whole: evaluate.py --tile."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detector.tiling.views import Tiling
    from pinpoint.cli.detection import DetectionCLI


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add how images are looked at to a command."""
    add = parser.add_argument_group(
        "tiles", "how images are looked at, and how what is found is merged"
    ).add_argument
    add("--tile", type=int, nargs="+", metavar="PX", help="longer side of the tiles; several are levels")
    add("--overlap", type=float, default=0.2, help="least share of a tile that the next shows too")
    add("--whole", action="store_true", help="look at the whole image, beside its tiles")
    add(
        "--merge",
        choices=["nmm", "nms", "wbf"],
        default="nmm",
        help="how views become one, see docs/tiling.md",
    )
    add("--flip", action="store_true", help="look at everything mirrored, too")
    add("--scales", type=float, nargs="+", default=[1.0], help="sizes of what is shown, of the input's")


def read_options(options: argparse.Namespace) -> dict[str, Any]:
    """The options of `add_options` as arguments of `detector.tiling.views.Tiling`."""
    names = ("tile", "overlap", "whole", "merge", "flip", "scales")
    return {name: getattr(options, name) for name in names}


def score_views(cli: DetectionCLI, tiling: Tiling) -> dict[str, float]:
    """Score the split in views, each image on one rank; after the command line's trainer has scored it whole.

    The model's scores are then those of the merged detections, of which the best `max_detections` of an
    image count, as of whole images.

    Args:
        cli: model, data and trainer; the model on its device again in the end.
        tiling: how the images are looked at.

    Returns:
        The scores of the whole images, as they were.

    Raises:
        ValueError: an image that cannot be read, under data.on_error=raise, or views that cannot be had.
    """
    import torch
    from torch import Tensor

    from datamodules.batch import Sample
    from datamodules.images.windows import Decoded
    from datamodules.loading.dataset import DetectionDataset
    from datamodules.loading.samplers import EvalSampler
    from datamodules.progress import progress_bar
    from detector.facts import ModelFacts
    from detector.inference import Model
    from detector.postprocess import Detections

    detector, data, trainer = cli.model, cli.datamodule, cli.trainer
    device = trainer.strategy.root_device
    detector.to(device).eval()

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(), trainer.precision_plugin.forward_context():
            predictions = detector(images.to(device).float().div_(255))
            return predictions.logits, predictions.boxes()

    names = tuple(data.class_names)
    facts = ModelFacts(names, data.image_size, (), detector.postprocess.arguments(), data.channels, data.fill)
    model = Model(forward, facts, detector.postprocess, str(device))
    dataset = DetectionDataset(data.evaluated.images, data.image_size, on_error=data.on_error)
    mine = EvalSampler(len(dataset), trainer.global_rank, trainer.world_size)
    samples: deque[Sample] = deque()

    def sources() -> Iterator[Decoded]:
        for index in mine:
            samples.append(dataset.read(index))
            yield Decoded(samples[-1].image)

    whole: dict[str, float] = detector.last_scores
    detector.scores.reset()
    most = detector.postprocess.max_detections
    looked_at = model.find(sources(), tiling, data.val_batch_size)
    for _, found in progress_bar(looked_at, len(mine), "scoring views"):
        sample = samples.popleft()
        best = Detections(found.boxes[:most], found.scores[:most], found.labels[:most])
        assert sample.annotations is not None
        detector.scores.update(sample.info.image_id, best, sample.annotations)
    detector.last_scores = detector.scores.compute()
    return whole
