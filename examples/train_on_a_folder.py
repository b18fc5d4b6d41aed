"""Train on your own data, from Python: python examples/train_on_a_folder.py data.yaml [--OPTION=VALUE ...].

The data.yaml is that of YOLO's format; configs/custom.yaml and configs/voc.yaml are the recipes of other
formats. Every option of train.py may follow.
"""

import sys

from pinpoint.cli.detection import DetectionCLI


def train(data_yaml: str, *options: str) -> dict[str, float]:
    """Train and return the scores of the last validation, in [0, 1], by name."""
    recipe = ["--config=configs/yolo.yaml", f"--data.yaml={data_yaml}"]
    run = DetectionCLI([*recipe, "--trainer.max_epochs=50", *options])
    run.fit()

    counts = dict(zip(run.datamodule.class_names, run.datamodule.class_counts, strict=True))
    print("objects of each class in training:", counts)
    scores: dict[str, float] = run.model.last_scores
    for name, value in scores.items():
        print(f"{name:20} {value:.3f}")
    print("the run:", run.trainer.log_dir)
    return scores


if __name__ == "__main__":
    train(*sys.argv[1:])
