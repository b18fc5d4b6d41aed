"""Scores a checkpoint: the command behind evaluate.py."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pinpoint.cli.arguments import place_and_name, results_label, tidy
from pinpoint.cli.tiled import add_options, read_options, score_views

if TYPE_CHECKING:
    from detector.tiling.views import Tiling

DESCRIPTION = """Score a checkpoint: python evaluate.py --ckpt_path RUN/checkpoints/best.ckpt [--option value]

Model and data come from the checkpoint, the machine and precision from here: the whole split is scored.
Options of train.py override, for example --data.val_annotations=other.json; so does --config RECIPE.
"""


def main(args: list[str] | None = None) -> None:
    """Print the scores, write metrics.json, predictions.json and report.html; args are the command line's."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "evaluate.py", description=DESCRIPTION, formatter_class=raw, allow_abbrev=False
    )
    add = parser.add_argument
    add("--ckpt_path", required=True, help="checkpoint of train.py, file of export.py, or shared model")
    add("--split", choices=["val", "test"], default="val", help="split to score")
    add("--output", type=Path, help="folder of the results; evaluation_SPLIT in the run folder if not given")
    add("--no-report", dest="report", action="store_false", help="leave report.html and its figures out")
    add("--submission", type=Path, metavar="DIR", help="write VisDrone's official result files there")
    add("--against", type=Path, metavar="FILE", help="metrics.json or predictions.json to compare with")
    add_options(parser)
    options, rest = parser.parse_known_args(args)
    overrides = tidy(rest)

    # Late: all this takes seconds, which --help does not need.
    from datamodules.formats.visdrone import CLASS_NAMES
    from datamodules.images.decoding import image_loader
    from datamodules.modules import VisDroneDataModule
    from detector.tiling.views import Tiling
    from evaluation.difference import predictions_path
    from evaluation.report.figures import attempt
    from evaluation.report.outputs import Outputs, ScoredData, write_evaluation
    from evaluation.report.page import write_report
    from evaluation.report.text import format_trade
    from pinpoint.cli.detection import DetectionCLI

    against = predictions_path(options.against) if options.against else None
    tiling = Tiling(**read_options(options))
    cli = DetectionCLI.from_file(options.ckpt_path, overrides)
    if options.split == "test" and cli.datamodule.test_split != "test":
        raise ValueError("the data has no test split: name one where its format can, or score --split val")
    limit = f"limit_{options.split}_batches"
    batches = getattr(cli.trainer, limit)  # of them, if whole, or a share
    if batches == 0:
        raise ValueError(f"--trainer.{limit}=0 leaves nothing to score: leave it out")
    if not tiling.plain and (isinstance(batches, int) or batches < 1):
        raise ValueError(f"--trainer.{limit} does not go with tiles and other views: leave it out")
    if options.output is None and not Path(options.ckpt_path).exists():
        raise ValueError("there is no folder of the model for its results: use --output DIR")
    folder = options.output or results_folder(Path(options.ckpt_path), options.split, overrides, tiling)
    for needed in filter(None, (folder, options.submission)):
        try:
            needed.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"the results cannot be written to {needed} ({error.strerror}): use --output DIR"
            ) from error
    run = cli.trainer.validate if options.split == "val" else cli.trainer.test
    run(cli.model, cli.datamodule, verbose=False)
    whole = None if tiling.plain else score_views(cli, tiling)

    results = cli.model.scores.gather()
    if results is None:  # another rank writes
        return
    scored = cli.datamodule.evaluated
    official = cli.datamodule.official_annotations if isinstance(cli.datamodule, VisDroneDataModule) else None
    data = ScoredData(
        class_names=cli.datamodule.class_names,
        category_ids=cli.datamodule.category_ids,
        file_names={image.info.image_id: image.info.file_name for image in scored.images},
        sizes={image.info.image_id: image.info.size for image in scored.images},
        load_image=image_loader(scored),
        visdrone_annotations=official,
        visdrone_names=CLASS_NAMES if official else (),
    )
    source = {name: value for name, value in paths(cli.config.data.init_args) if not name.startswith("train")}
    facts = {"checkpoint": options.ckpt_path, "split": options.split, "data": source}
    if whole is not None:
        facts |= {"views": asdict(tiling), "whole_images": whole}
    outputs = Outputs(folder, options.submission, against)
    most = cli.model.postprocess.max_detections
    text, analysis = write_evaluation(data, results, cli.model.last_scores, most, facts, outputs)
    print(text)
    if whole is not None:
        print(f"\nwhole images beside {tiling.label}\n{format_trade(whole, cli.model.last_scores)}")
    if (missing := len(scored.images) - len(results.image_ids)) > 0:
        print(f"\nscored without {missing} of the split's {len(scored.images)} images")
    print(f"\nmetrics.json, predictions.json and images.json are in {folder}")
    if options.report:
        title = f"{options.ckpt_path}, {options.split}"
        with attempt("report.html"):
            write_report(
                folder, title, results, cli.model.last_scores, analysis, data.load_image, data.file_names
            )
            print(f"the report is {folder / 'report.html'}")


def paths(options: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Options of a data module that name files or folders, by name."""
    for name, value in options.items():
        if isinstance(value, Path) or (isinstance(value, str) and "/" in value):
            yield name, str(value)


def results_folder(
    checkpoint: Path, split: str, overrides: Sequence[str], tiling: Tiling | None = None
) -> Path:
    """Where the results go: beside the checkpoint, under a name that says what was scored.

    Args:
        checkpoint: RUN/checkpoints/best.ckpt of a run, or a file that was moved anywhere.
        split: "val" or "test".
        overrides: options that differ from the training's, see `pinpoint.cli.arguments.tidy`.
        tiling: how the images are looked at; as a whole if not given.

    Returns:
        `evaluation_SPLIT`, with the checkpoint's name unless it is the best, or that of an exported file, how
        its images are looked at and what the data is.
    """
    from detector.exported import is_exported  # late, see `main`

    place, name = place_and_name(checkpoint)
    name = checkpoint.name if is_exported(checkpoint) else name
    parts = ["evaluation", split, *([name] if name != "best" else [])]
    run = place.parent if place.name == "checkpoints" else place
    views = [] if tiling is None or tiling.plain else [tiling.label.replace(" ", "-")]
    return run / "_".join([*parts, *views, *results_label(overrides)])
