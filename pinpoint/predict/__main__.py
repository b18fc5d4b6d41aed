"""Finds the objects of images and videos: the command behind predict.py."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from pinpoint.cli.tiled import add_options

DESCRIPTION = """Detect objects: python predict.py PHOTOS --ckpt_path BEST.CKPT --save pictures csv

PHOTOS are images, folders, patterns ('*.jpg'), .txt lists of paths, or videos; several may be given.
The same command goes on where it was interrupted. See docs/predict.md.
"""

FORMATS = {
    "pictures": "drawn images",
    "video": "drawn videos",
    "csv": "a table",
    "coco": "COCO's JSON",
    "yolo": "YOLO's text files",
    "voc": "Pascal VOC's XML files",
    "visdrone": "VisDrone's result files",
    "labelme": "pre-labels for LabelMe",
    "cvat": "pre-labels for CVAT",
    "geojson": "polygons on the map, of georeferenced images",
}
"""Words of --save, and what each writes."""


def main(args: list[str] | None = None) -> int:
    """Look at everything, write what was found, and name what could not be read; args are the command line's.

    Returns:
        The exit code: 1 if something could not be read, 130 after Ctrl-C.
    """
    options = _parser().parse_args(args)
    threshold, thresholds = read_thresholds(options.threshold)
    check_words(options.save, options.inputs)

    # Late: all this takes seconds, which --help does not need.
    from pinpoint.predict.predict import Wish, predict

    del options.threshold
    return predict(Wish(**vars(options), threshold=threshold, thresholds=thresholds))


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "predict.py", description=DESCRIPTION, formatter_class=raw, allow_abbrev=False
    )
    add = parser.add_argument
    add("inputs", nargs="*", metavar="PHOTOS", help="what to look at")
    add("--ckpt_path", dest="checkpoint", required=True, help="checkpoint, exported file or shared model")
    add(
        "--output",
        type=Path,
        default=Path("predictions"),
        help="folder of the results; predictions if not given",
    )
    known = "; ".join(f"{word}: {what}" for word, what in FORMATS.items())
    usual = ["pictures", "video", "csv"]
    add("--save", nargs="+", default=usual, metavar="FORMAT", help=f"{known}. Usually {' '.join(usual)}")
    text = "score from which objects are shown, of all or by class: 0.3, person=0.4; as trained if not given"
    add("--threshold", nargs="+", default=[], metavar="SCORE", help=text)
    add("--recursive", action="store_true", help="look into the subfolders of folders")
    add("--track", action="store_true", help="number objects that stay the same from frame to frame")
    add("--batch_size", type=int, default=4, help="images, or tiles, that are looked at together")
    add("--suppression", choices=["nms", "soft"], help="as the model was trained to be scored if not given")
    add("--class_agnostic", action="store_true", default=None, help="classes suppress each other")
    add("--device", default="auto", help="cpu, cuda; auto for a GPU where there is one")
    add("--restart", action="store_true", help="forget what --output holds, and begin anew")
    add_options(parser)
    return parser


def read_thresholds(words: Sequence[str]) -> tuple[float | None, dict[str, float]]:
    """Score of all other classes, None for the model's own, and scores by class name.

    Args:
        words: such as `0.3` and `person=0.4`.

    Raises:
        ValueError: a word is neither, or no score.
    """
    rest: float | None = None
    by_class = {}
    for word in words:
        name, equals, text = word.rpartition("=")
        try:
            score = float(text)
        except ValueError:
            raise ValueError(
                f"--threshold {word} is no score: give one for all, such as 0.3, or by class: person=0.4 "
                "(PHOTOS come before it)"
            ) from None
        if not 0 <= score <= 1:
            raise ValueError(f"--threshold {word} is not between 0 and 1")
        if equals:
            by_class[name] = score
        else:
            rest = score
    return rest, by_class


def check_words(save: Sequence[str], inputs: Sequence[str]) -> None:
    """Refuse words of --save that are no formats, and a command without inputs.

    Raises:
        ValueError: there are some, or none.
    """
    for word in save:
        if word not in FORMATS:
            if Path(word).exists():
                raise ValueError(f"what to look at comes first: predict.py {word} --save {save[0]} ...")
            close = get_close_matches(word, FORMATS, 1)
            meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(FORMATS)}"
            raise ValueError(f"--save knows no {word}: {meant}")
    if not inputs:
        raise ValueError("nothing to look at: predict.py PHOTOS --ckpt_path BEST.CKPT")


if __name__ == "__main__":
    from pinpoint.cli.errors import user_errors

    with user_errors():
        sys.exit(main())
