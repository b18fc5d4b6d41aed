"""Score another tool's predictions: python examples/score_predictions.py IMAGES TRUTH.json PREDICTIONS.json.

The predictions are in COCO's results format:
[{"image_id": 1, "category_id": 3, "bbox": [x, y, width, height], "score": 0.9}, ...]
"""

import sys
from pathlib import Path

import torch

from datamodules.modules import CocoDataModule
from detector.postprocess import Detections
from evaluation.coco import CocoScores, evaluate
from evaluation.difference import read_predictions
from evaluation.report.text import format_table


def score(images: str, annotations: str, predictions: str) -> dict[str, float]:
    """Print COCO's scores of the predictions and return them by name."""
    folder, truth = Path(images), Path(annotations)
    data = CocoDataModule(folder, truth, folder, truth)
    data.setup("validate")
    nothing = Detections(torch.empty(0, 4), torch.empty(0), torch.empty(0, dtype=torch.int64))
    scores = CocoScores(data.class_names)
    for image in data.evaluated.images:
        scores.update(image.info.image_id, nothing, image.annotations)
    results = scores.gather()
    assert results is not None  # a single process
    found = read_predictions(Path(predictions), results, data.category_ids)
    values = evaluate(found, data.class_names)
    print(format_table(values, data.class_names))
    return values


if __name__ == "__main__":
    score(*sys.argv[1:])
