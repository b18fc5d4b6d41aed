"""The distribution focal loss on distances that a reader places by hand."""

import pytest
import torch
import torch.nn.functional as F

from losses.distribution import distribution_focal, side_distances

BINS = torch.arange(-2.0, 14.0)  # 16 bins, one stride apart


def test_side_distances():
    # From (10, 20): 6 px to the left side, 4 to the top, 10 to the right, 12 to the bottom; stride 2. In the
    # second row, the point lies 2 px right of its box.
    boxes = torch.tensor([[4.0, 16.0, 20.0, 32.0], [0.0, 0.0, 8.0, 8.0]])
    points, strides = torch.tensor([[10.0, 20.0], [10.0, 4.0]]), torch.tensor([2.0, 4.0])
    expected = [[3.0, 2.0, 5.0, 6.0], [2.5, 1.0, -0.5, 1.0]]
    assert side_distances(boxes, points, strides).tolist() == expected


def test_two_bins_share_the_distance():
    # 3.25 lies between bin 5 (3 strides) and bin 6 (4 strides), at a quarter of the way.
    logits = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
    log_p = logits.log_softmax(-1)
    expected = -(0.75 * log_p[0, :, 5] + 0.25 * log_p[0, :, 6]).mean()
    loss = distribution_focal(logits, torch.full((1, 4), 3.25), BINS)
    torch.testing.assert_close(loss, expected[None])


@pytest.mark.parametrize(
    ("distance", "bin"), [(-2.0, 0), (-9.0, 0), (13.0, 15), (99.0, 15), (0.0, 2), (12.0, 14)]
)
def test_distances_on_and_beyond_the_ends(distance, bin):
    logits = torch.randn(1, 4, 16, generator=torch.Generator().manual_seed(0))
    expected = F.cross_entropy(logits[0], torch.full((4,), bin))
    torch.testing.assert_close(distribution_focal(logits, torch.full((1, 4), distance), BINS), expected[None])


def test_bins_of_another_spacing():
    # Bins 0, 0.5, 1: a distance of 0.75 is half-way between the last two.
    logits = torch.randn(1, 4, 3, generator=torch.Generator().manual_seed(0))
    expected = -logits.log_softmax(-1)[..., 1:].mean(-1).mean(-1)
    loss = distribution_focal(logits, torch.full((1, 4), 0.75), torch.tensor([0.0, 0.5, 1.0]))
    torch.testing.assert_close(loss, expected)


def test_minimum_decodes_to_the_distance():
    logits = torch.zeros(1, 4, 16, requires_grad=True)
    distances = torch.tensor([[0.3, 1.6, 7.5, -1.2]])
    optimizer = torch.optim.LBFGS([logits], max_iter=200)

    def closure():
        optimizer.zero_grad()
        loss = distribution_focal(logits, distances, BINS).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    torch.testing.assert_close(logits.softmax(-1) @ BINS, distances, rtol=0, atol=0.02)


def test_no_positive():
    logits = torch.zeros(0, 4, 16, requires_grad=True)
    loss = distribution_focal(logits, torch.zeros(0, 4), BINS)
    assert loss.shape == (0,)
    loss.sum().backward()


def test_gradient():
    logits = torch.randn(1, 4, 16, dtype=torch.float64, requires_grad=True)
    distances = torch.tensor([[0.3, 1.6, 7.5, -1.2]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: distribution_focal(x, distances, BINS.double()), logits)
