"""The average of the weights."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

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


def test_updates_are_those_of_lightning() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))
    model(torch.rand(2, 3, 8, 8))
    ours, theirs = EMA(decay=0.9, window=0.5), EMA(decay=0.9, window=0.5)
    for ema in (ours, theirs):
        ema._average_model = AveragedModel(model, multi_avg_fn=ema._average, use_buffers=True)
    trainer = SimpleNamespace(global_step=0)
    ours.on_train_start(trainer, model)
    for step in range(1, 5):
        with torch.no_grad():
            for p in model.parameters():
                p += torch.randn_like(p)
        model(torch.rand(2, 3, 8, 8))  # moves the norm's statistics and its count
        trainer.global_step = step
        for _ in range(2):  # of a step over two batches, the second one ends it
            ours.on_train_batch_end(trainer, model, None, None, 0)
        super(EMA, theirs).on_train_batch_end(trainer, model, None, None, 0)
        found, expected = ours._average_model.state_dict(), theirs._average_model.state_dict()
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert torch.equal(found[name], value), (step, name)
        assert found["module.1.num_batches_tracked"] == step + 1
    assert ours.state_dict() == theirs.state_dict()


@pytest.mark.parametrize("wrong", [{"decay": 2}, {"window": -1}])
def test_shares_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"EMA\.{next(iter(wrong))} must be 0 to 1"):
        EMA(**wrong)
