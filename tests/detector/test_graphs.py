"""The network as CUDA graphs: when they are recorded and used; on a GPU, that they do the same."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from detector import graphs
from detector.graphs import Replayed
from detector.networks.head import Predictions
from detector.networks.network import Network


def small() -> Network:
    torch.manual_seed(0)
    return Network(2, (64, 64), "mobilenetv4_conv_small_050", strides=(8, 16), channels=16)


def test_a_size_is_recorded_once_and_those_beyond_the_limit_run_as_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(graphs, "SIZES", 2)
    network, recorded, replayed = small(), [], []

    def record(given: Network, like: Tensor) -> Callable[[Tensor], Predictions]:
        assert given is network
        recorded.append(tuple(like.shape[-2:]))

        def run(images: Tensor) -> Predictions:
            assert images.shape == like.shape
            replayed.append(tuple(images.shape[-2:]))
            return network(images)

        return run

    run = Replayed(network, record)
    for side in (64, 96, 64, 128, 96):
        assert run(torch.rand(2, 3, side, 64)).levels[0].rows == side // 8
    assert recorded == [(64, 64), (96, 64)]
    assert replayed == [(64, 64), (96, 64), (64, 64), (96, 64)]


def test_evaluation_and_another_precision_are_not_the_recorded_training() -> None:
    network, recorded = small(), []

    def record(given: Network, like: Tensor) -> Network:
        recorded.append(torch.is_autocast_enabled("cpu"))
        return given

    run, images = Replayed(network, record), torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        run(images)
    network.eval()
    run(images)
    assert recorded == []
    network.train()
    run(images)
    with torch.autocast("cpu", torch.bfloat16):
        run(images)
        run(images)
    assert recorded == [False, True]


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True])
def test_graphs_equal_eager_on_a_gpu(half: bool) -> None:
    plain = small().cuda()
    network = copy.deepcopy(plain)
    run = Replayed(network)
    generator = torch.Generator("cuda").manual_seed(0)
    for side in (64, 96, 64, 64):
        images = torch.rand(2, 3, side, 64, device="cuda", generator=generator)
        for one in (plain, network):
            one.zero_grad()
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            found, expected = run(images), plain(images)
        tolerance = {"rtol": 2e-2, "atol": 2e-2} if half else {"rtol": 1e-3, "atol": 1e-3}
        for name in ("logits", "distances", "points", "strides"):
            torch.testing.assert_close(getattr(found, name), getattr(expected, name), **tolerance)
        assert found.levels == expected.levels
        for said in (found, expected):
            (said.logits.float().square().mean() + said.distances.float().square().mean()).backward()
        for (name, p), q in zip(network.named_parameters(), plain.parameters(), strict=True):
            size = q.grad.abs().max().clamp(min=1e-6)  # of a whole tensor, as single entries may cancel
            assert ((p.grad - q.grad).abs().max() / size) < (0.2 if half else 0.01), name
        for one in (plain, network):
            with torch.no_grad():
                for p in one.parameters():
                    p -= 0.01 * p.grad
    for (name, a), b in zip(network.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=0.05, atol=0.05, msg=name)
    assert len(run.graphs) == 2


@pytest.mark.gpu
@pytest.mark.slow
def test_the_compiled_network_equals_eager_on_a_gpu() -> None:
    plain = small().cuda()
    network = copy.deepcopy(plain)
    network.compile(dynamic=True)
    for side in (64, 96, 128):
        images = torch.rand(2, 3, side, 64, device="cuda")
        found, expected = network(images), plain(images)
        torch.testing.assert_close(found.logits, expected.logits, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(found.distances, expected.distances, rtol=1e-3, atol=1e-3)
        assert torch.equal(found.points, expected.points)
        assert [tuple(level) for level in found.levels] == [tuple(level) for level in expected.levels]
