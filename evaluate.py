"""Score a checkpoint: python evaluate.py --ckpt_path runs/NAME/version_0/checkpoints/best.ckpt [--option v].

Model and data come from the checkpoint; every option of train.py overrides them.
"""

import argparse
from pathlib import Path

from detector.cli import DetectionCLI, load_checkpoint, user_errors
from evaluation.report import format_table, write_metrics, write_predictions


def main(args: list[str] | None = None) -> None:
    """Print the scores, write metrics.json and predictions.json."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ckpt_path", required=True, help="checkpoint that train.py wrote")
    parser.add_argument("--split", choices=["val", "test"], default="val", help="split to score")
    parser.add_argument(
        "--output", type=Path, help="folder of the results; evaluation/ in the run folder if not given"
    )
    options, overrides = parser.parse_known_args(args)
    checkpoint = load_checkpoint(options.ckpt_path)
    cli = DetectionCLI.from_checkpoint(checkpoint, overrides)
    run = cli.trainer.validate if options.split == "val" else cli.trainer.test
    run(cli.model, cli.datamodule, verbose=False)

    results, scores = cli.model.scores.gather(), cli.model.last_scores
    if results is None:  # another rank writes
        return
    output = options.output or Path(options.ckpt_path).parents[1] / "evaluation"
    output.mkdir(parents=True, exist_ok=True)
    print(format_table(scores, cli.model.class_names))
    write_metrics(
        output / "metrics.json", {"checkpoint": str(options.ckpt_path), "split": options.split, **scores}
    )
    write_predictions(output / "predictions.json", results, cli.datamodule.category_ids)
    print(f"\nmetrics.json and predictions.json are in {output}")


if __name__ == "__main__":
    with user_errors():
        main()
