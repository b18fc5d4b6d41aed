"""Writes a checkpoint as a file that runs elsewhere: the command behind export.py."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pinpoint.cli.arguments import tidy

DESCRIPTION = """Write a checkpoint for other runtimes: python export.py --format onnx --ckpt_path BEST.CKPT

The file is run on the checkpoint's validation images, and refused (exit code 1) if it finds anything else.
Options of train.py, such as --data.val_images, say where these are now. See docs/export.md.
"""


def main(args: list[str] | None = None) -> int:
    """Export, and say where the result is, or why there is none; args are the command line's.

    Returns:
        The exit code: 1 if the gate refused the file.
    """
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "export.py", description=DESCRIPTION, formatter_class=raw, allow_abbrev=False
    )
    add = parser.add_argument
    formats = ["onnx", "openvino", "pt2", "weights", "hub"]
    add("--ckpt_path", dest="checkpoint", required=True, help="checkpoint of train.py, or a shared model")
    add("--format", choices=formats, required=True, help="what to write")
    add("--output", type=Path, help="file or folder to write; beside the checkpoint if not given")
    add("--half", action="store_true", help="half precision")
    add("--int8", action="store_true", help="8-bit integers, calibrated on validation images")
    add("--nms", action="store_true", help="non-maximum suppression inside, as one more output")
    add("--images", type=int, default=500, help="most validation images to calibrate and check with")
    add("--unchecked", dest="checked", action="store_false", help="do not run it: no data is at hand")
    add("--licence", default="other", help="of the weights, for the model card, by the hub's name for it")
    options, rest = parser.parse_known_args(args)
    overrides = tidy(rest)

    # Late: all this takes seconds, which --help does not need.
    from pinpoint.export.exporter import Wish, export

    wish = Wish(**vars(options))
    if refused := export(wish, overrides):
        print(f"{wish.path} is not written: {'; '.join(refused)}", file=sys.stderr)
        return 1
    print(f"{wish.path} is written")
    return 0
