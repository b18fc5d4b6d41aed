"""Trains a detector: the command behind train.py."""

from __future__ import annotations

import sys

from pinpoint.cli.recipes import recipe_table

HELP = """\
usage: train.py --config RECIPE [--section.option=value ...]

Recipes, by the format of the data:
{recipes}

data
  --data.image_size 640          height and width of the network's input, or 640x1088, or '[640,1088]'
  --data.batch_size 16           images a step; auto: as many as fit
  --data.num_workers 4           processes that read
  --data.fraction 0.1            share of the training images
  --data.on_error skip           leave damaged images out, with one warning; raise stops
  --data.ignore_categories A     categories that mark unlabelled regions, '[A,B]' (COCO)
  --data.augment.mosaic 0.5      share of mosaics; also .flip .vertical_flip .scale .tile .copy_paste
  --data.sampling.multi_scale '[0.75,1.25]'    also .rectangular .repeat_threshold .background
  --data.reading.cache ram       or disk: images are decoded once
model
  --model.loss.box ciou          or nwd, giou, hybrid, ...; a wrong name lists them all
  --model.loss.class_weights '[1,2]'
  --model.network.backbone resnet18            any timm backbone with a feature pyramid
  --model.network.strides 4,8,16               finer levels for smaller objects
  --model.network.pretrained true              ImageNet weights, or a local file of them
  --model.init_from coco                       start from public or other weights: docs/weights.md
  --model.network.channels 80                  width of neck and head
  --model.optimizer.lr 0.004
trainer
  --trainer.max_epochs 100
  --trainer.max_time 00:02:00:00 days:hours:minutes:seconds; with --trainer.max_epochs=-1 time alone counts
  --trainer.devices 2            GPUs; --trainer.accelerator cpu
  --trainer.precision bf16-mixed
  --trainer.logger.init_args.save_dir runs
run
  --ckpt_path FILE               go on from a run's last.ckpt
  --seed_everything 0
  --print_config                 show all options with their values

Every option of a recipe, in sections: train.py --config RECIPE --help
Before training, examine the data: python -m pinpoint.doctor --config RECIPE ...
"""


def main(args: list[str] | None = None) -> None:
    """Build model, data and trainer, and fit; args are the command line's."""
    given = sys.argv[1:] if args is None else args
    if {"-h", "--help"} & set(given) and not any(word.startswith(("--config", "-c")) for word in given):
        print(HELP.format(recipes=recipe_table()), end="")
        return
    from pinpoint.cli.detection import DetectionCLI  # late: it takes seconds, which --help does not need

    DetectionCLI(args).fit()
