"""Sums over the global batch in one process; two processes are in test_detection.py."""

import torch

from losses.reduction import mean_over_ranks, quotient, world_size


def test_one_process_is_its_own_mean():
    value = torch.ones(3, requires_grad=True)
    assert mean_over_ranks(value) is value
    assert world_size() == 1


def test_quotient_of_nothing_is_zero():
    assert quotient(torch.zeros(()), torch.zeros(())) == 0
    assert quotient(torch.tensor(1e-6), torch.tensor(4e-6)) == 0.25
