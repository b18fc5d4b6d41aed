"""Computes the loss of a batch again that a training left out.

    python -m pinpoint.cli.replay RUN/not_finite/step_9.pt

The file holds the batch as it was on the device, the weights of the moment, and the run's configuration. A
class of your own is named once more, as with --model.loss.box=examples.custom_loss.CornerLoss.
"""

from __future__ import annotations

import argparse

import torch

from datamodules.batch import Batch, ImageInfo
from detector.intact import read_intact, require_checkpoint
from pinpoint.cli.arguments import tidy
from pinpoint.cli.detection import DetectionCLI
from pinpoint.cli.errors import user_errors


def main(args: list[str] | None = None) -> None:
    """Print the terms of the loss of a batch, and of each image alone; args are the command line's."""
    parser = argparse.ArgumentParser("replay", description=__doc__)
    parser.add_argument("file", help="file of a run's not_finite folder")
    options, rest = parser.parse_known_args(args)
    path = options.file
    content = read_intact(path)
    require_checkpoint(path, content)
    if "batch" not in content:
        raise ValueError(f"{path} holds no batch: give a file of a run's not_finite folder")
    parts = dict(content["batch"])
    size = (int(parts["images"].shape[2]), int(parts["images"].shape[3]))
    infos = [ImageInfo(i, name, size) for i, name in enumerate(parts.pop("files"))]
    cli = DetectionCLI.unfused(content, tidy(rest))
    model = cli.model.train()
    whole = Batch(**parts, infos=infos)
    for batch in (whole, *(only(whole, i) for i in range(len(whole)))):
        with torch.no_grad():
            terms, _ = model._losses(model(batch.images), batch)
        name = f"all {len(whole)} images" if batch is whole else batch.infos[0].file_name
        pixels = "" if bool(batch.images.isfinite().all()) else ", with pixels that are not finite"
        print(f"{name}: {', '.join(f'{term} {value.item():.6g}' for term, value in terms.items())}{pixels}")


def only(batch: Batch, index: int) -> Batch:
    """One image of a batch as a batch."""
    mine, ignored = batch.image_index == index, batch.ignore_index == index
    return Batch(
        images=batch.images[index : index + 1],
        boxes=batch.boxes[mine],
        labels=batch.labels[mine],
        image_index=torch.zeros_like(batch.image_index[mine]),
        ignore_boxes=batch.ignore_boxes[ignored],
        ignore_index=torch.zeros_like(batch.ignore_index[ignored]),
        infos=[batch.infos[index]],
    )


if __name__ == "__main__":
    with user_errors():
        main()
