"""Score a checkpoint: python evaluate.py --ckpt_path runs/NAME/version_0/checkpoints/best.ckpt [--option v].

Model and data come from the checkpoint; every option of train.py overrides them.
"""

import argparse
from pathlib import Path

from datamodules.base import DetectionDataModule
from datamodules.images.decoding import image_loader
from evaluation.difference import predictions_path
from evaluation.report.outputs import Outputs, ScoredData, write_evaluation
from pinpoint.cli.detection import DetectionCLI, load_checkpoint
from pinpoint.cli.errors import user_errors


def main(args: list[str] | None = None) -> None:
    """Print the scores, write metrics.json, predictions.json and report.html."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    add = parser.add_argument
    add("--ckpt_path", required=True, help="checkpoint that train.py wrote")
    add("--split", choices=["val", "test"], default="val", help="split to score")
    add("--output", type=Path, help="folder of the results; evaluation_SPLIT/ in the run folder if not given")
    add("--no-report", dest="report", action="store_false", help="leave report.html and its figures out")
    add(
        "--submission", type=Path, metavar="DIR", help="write VisDrone's official result files to this folder"
    )
    add(
        "--against",
        type=Path,
        metavar="FILE",
        help="metrics.json or predictions.json of a run to compare with",
    )
    options, overrides = parser.parse_known_args(args)
    against = predictions_path(options.against) if options.against else None
    checkpoint = load_checkpoint(options.ckpt_path)
    cli = DetectionCLI.from_checkpoint(checkpoint, overrides)
    if options.split == "test" and cli.datamodule.test_split != "test":
        raise ValueError("the data has no test split: name one where its format can, or score --split val")
    run = cli.trainer.validate if options.split == "val" else cli.trainer.test
    run(cli.model, cli.datamodule, verbose=False)

    results = cli.model.scores.gather()
    if results is None:  # another rank writes
        return
    folder = options.output or Path(options.ckpt_path).parents[1] / f"evaluation_{options.split}"
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"checkpoint": str(options.ckpt_path), "split": options.split}
    outputs = Outputs(folder, options.report, options.submission, against)
    data = scored_data(cli.datamodule)
    limit = cli.model.postprocess.max_detections
    print(write_evaluation(data, results, cli.model.last_scores, limit, facts, outputs))
    print(f"\nmetrics.json, predictions.json{' and report.html' * options.report} are in {folder}")


def scored_data(data: DetectionDataModule) -> ScoredData:
    """What the outputs need to know of the data."""
    images = data.evaluated.images
    return ScoredData(
        class_names=data.class_names,
        category_ids=data.category_ids,
        file_names={image.info.image_id: image.info.file_name for image in images},
        sizes={image.info.image_id: image.info.size for image in images},
        load_image=image_loader(data.evaluated),
        visdrone_annotations=data.visdrone_annotations,
    )


if __name__ == "__main__":
    with user_errors():
        main()
