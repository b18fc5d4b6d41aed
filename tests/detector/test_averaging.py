"""Averages of weights, paired and moved."""

import copy

import torch
from torch import nn

from detector.averaging import move, pair


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))


def test_an_average_of_single_precision_follows_double_precision() -> None:
    average = network()
    average(torch.rand(2, 3, 8, 8))
    current = copy.deepcopy(average).double()
    with torch.no_grad():
        current[0].bias += 1
    for averages, currents in pair(average, current):
        move(averages, currents, 0.25)
    assert average[0].bias.dtype == torch.float32
    torch.testing.assert_close(average[0].bias + 0.75, current[0].bias.float())
