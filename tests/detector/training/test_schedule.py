"""The learning rate over a training, and over what goes on otherwise than it began."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Timer
from torch import Tensor

from detector.training.schedule import Schedule, lr_factor, time_share


def trainer(batches: int, done: int, epochs: int = 4, steps: int = -1, accumulated: int = 1) -> Any:
    """A trainer with so many batches an epoch, of which it has done some."""
    total = epochs * math.ceil(batches / accumulated)
    return SimpleNamespace(
        estimated_stepping_batches=total if steps == -1 else min(steps, total),
        max_epochs=epochs,
        num_training_batches=batches,
        accumulate_grad_batches=accumulated,
        fit_loop=SimpleNamespace(
            epoch_progress=SimpleNamespace(current=SimpleNamespace(processed=done)),
        ),
    )


def begun(before: Schedule | None, now: Any) -> Schedule:
    """A schedule that goes on from where another was saved."""
    schedule = Schedule(warmup=0.05, final=0.0)
    if before is not None:
        schedule.load_state_dict(before.state_dict())
    schedule.begin(now)
    return schedule


def test_epochs_of_another_length_go_on_in_the_middle() -> None:
    first = begun(None, trainer(4, 0))
    half = first.factor(8)
    assert half == pytest.approx(0.5)
    second = begun(first, trainer(2, 2))  # twice the batch: two of four epochs are done, in 8 steps
    assert second.factor(8) == half
    assert second.factor(12) == pytest.approx(0)
    third = begun(second, trainer(2, 3))  # stopped again, without a change
    assert third.factor(10) == second.factor(10) == pytest.approx(lr(3 / 4))
    fourth = begun(third, trainer(8, 3, accumulated=2))
    assert fourth.factor(10) == pytest.approx(lr(3 / 4))
    assert fourth.factor(14) == pytest.approx(0)


def test_a_run_that_goes_on_as_it_began_keeps_its_steps() -> None:
    first = begun(None, trainer(4, 0))
    assert begun(first, trainer(4, 3)).state_dict() == first.state_dict()
    longer = begun(first, trainer(4, 3, epochs=8))
    assert longer.factor(16) == pytest.approx(0.5)
    # What so many steps end goes by steps, whatever an epoch is.
    by_steps = begun(begun(None, trainer(4, 0, steps=12)), trainer(8, 1, steps=12))
    assert by_steps.factor(6) == pytest.approx(0.5)


def lr(share: float) -> float:
    return (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize(("warmup", "final"), [(-1, 0.1), (2, 0.1), (0.1, -1), (0.1, math.nan)])
def test_shares_and_rates_out_of_range(warmup: float, final: float) -> None:
    with pytest.raises(ValueError, match=r"model\.(warmup|final_lr) must be 0 to 1"):
        Schedule(warmup, final)


def test_learning_rate_warms_up_then_follows_a_cosine() -> None:
    schedule = Schedule(warmup=0.1, final=0.1)
    schedule.total = 100
    factor = [schedule.factor(step) for step in range(101)]
    cosine = [0.1 + 0.9 * (1 + math.cos(math.pi * step / 100)) / 2 for step in range(101)]
    assert factor[0] == pytest.approx(0.1 * cosine[0])  # the first of ten steps of warm-up
    assert factor[10:] == pytest.approx(cosine[10:])
    assert factor[50] == pytest.approx(0.55)  # half-way between 1 and 0.1
    assert factor[100] == pytest.approx(0.1)


def test_the_clock_of_a_timed_run_is_that_of_all_ranks() -> None:
    asked = []

    def reduce(share: Tensor, reduce_op: str) -> Tensor:
        asked.append((float(share), reduce_op))
        return torch.tensor(0.5)  # of the rank that began first

    timer = Timer(duration={"seconds": 100})
    strategy = SimpleNamespace(root_device=torch.device("cpu"), reduce=reduce)
    assert time_share(SimpleNamespace(callbacks=[], strategy=strategy)) is None
    assert time_share(SimpleNamespace(callbacks=[timer], strategy=strategy)) == 0.5
    assert asked == [(0, "max")]
    assert lr_factor(7, math.inf, warmup=0.1, final=0.0, share=0.5) == pytest.approx(0.5)
