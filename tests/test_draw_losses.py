"""The pictures of docs/losses.md: complete, and drawn."""

import importlib.util
from pathlib import Path
from typing import get_args

import pytest
import torch
from PIL import Image

from losses.named import BoxLossName
from losses.tunable import SimilarityName

SCRIPT = Path(__file__).resolve().parents[1] / "docs" / "draw_losses.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("draw_losses", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_box_loss_is_in_a_picture(script):
    names = {name for literal in get_args(BoxLossName) for name in get_args(literal) or [literal]}
    assert set(get_args(SimilarityName)) < names
    drawn = {name for group in script.GROUPS.values() for name in group} | script.CLASSES.keys()
    assert drawn == names


def test_value_and_slope_of_a_shift(script):
    # Squares of 16 px, shifted by 4: IoU 12 / 20 = 0.6, with the derivative -2 * 16 / (16 + 4)^2 = -0.08.
    shift, zero = torch.tensor([4.0], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    target = script.square(zero, zero, zero + 16)
    value, slope = script.value_and_slope(
        script.box_loss("iou"), target, lambda x: script.square(x, zero, zero + 16), shift
    )
    torch.testing.assert_close(value, zero + 0.4)
    torch.testing.assert_close(slope, zero + 0.08)


@pytest.mark.slow
def test_pictures_are_drawn_and_small(script, tmp_path):
    script.draw_size_aware(tmp_path)
    script.draw_broadcasting(tmp_path)
    for path in tmp_path.iterdir():
        assert Image.open(path).width > 800
        assert path.stat().st_size < 150_000
    assert len(list(tmp_path.iterdir())) == 2
