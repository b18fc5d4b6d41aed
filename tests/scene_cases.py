"""Reading of generated scenes, for their tests."""

import json
from pathlib import Path

import numpy as np

from datamodules.scenes import writing as scenes
from datamodules.scenes.canvas import SUPERSAMPLING

QUICKSTART = Path(__file__).resolve().parents[1] / "configs" / "quickstart.yaml"
THIRD = 1 / SUPERSAMPLING  # canvas pixels are the grain of boxes


def side(boxes):
    return np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))


def load(folder):
    return json.loads((folder / "annotations.json").read_text())


# ---- the drawing ------------------------------------------------------------------------------------------


def clear_objects(scene):
    return (scene.labels >= 0) & (scene.visible >= scenes.MIN_VISIBLE) & (scene.areas >= scenes.MIN_AREA)
