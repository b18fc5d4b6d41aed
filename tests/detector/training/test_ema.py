"""The average of the weights."""

import pytest
import torch

from detector.training.ema import EMA


@pytest.mark.parametrize(("steps", "window"), [(100, 0.05), (3000, 0.05), (100, 0.5)])
def test_the_average_reaches_back_over_a_share_of_the_steps(steps: int, window: float) -> None:
    # Averaging the step numbers themselves tells the mean age of what is averaged: for a window that
    # grows as w * t, it is close to w * t / (1 + w).
    ema = EMA(decay=0.9998, window=window)
    average = torch.zeros(())
    for step in range(1, steps + 1):
        ema._latest_update_step = step - 1
        ema._average([average], [torch.tensor(float(step))], 0)
    age = steps - average.item()
    assert age == pytest.approx(window * steps / (1 + window), rel=0.15)


def test_the_average_never_reaches_back_further_than_its_decay() -> None:
    ema, average = EMA(decay=0.9, window=1.0), torch.zeros(())
    for step in range(1, 1001):
        ema._latest_update_step = step - 1
        ema._average([average], [torch.tensor(float(step))], 0)
    assert 1000 - average.item() == pytest.approx(0.9 / (1 - 0.9), rel=1e-3)
