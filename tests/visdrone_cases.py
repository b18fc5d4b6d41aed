"""Annotations and detections in VisDrone's own rows, for the tests of its protocol."""

from pathlib import Path

import numpy as np

from datamodules.formats.visdrone import CLASS_NAMES
from evaluation.visdrone import evaluate

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "visdrone_protocol"

CAR, VAN, OTHERS, REGION = 4, 5, 11, 0


def row(x, y, w, h, category=CAR, score=1.0):
    return [x, y, w, h, score, category]


def score(folder, truth, found, sizes=(1000, 1000)):
    """Scores of the images given by name, through annotation files."""
    for name, rows in truth.items():
        lines = [",".join(f"{v:g}" for v in [*r[:4], r[4], r[5], 0, 0]) + ",\n" for r in rows]
        (folder / f"{name}.txt").write_text("".join(lines))
    found = {name: np.array(rows, dtype=float).reshape(-1, 6) for name, rows in found.items()}
    return evaluate(folder, found, CLASS_NAMES, {name: sizes for name in truth} if sizes else None)


def one(folder, truth, found, sizes=(1000, 1000)):
    return score(folder, {"a": truth}, {"a": found}, sizes)
