"""A network's forward and backward as CUDA graphs: each is one launch in place of hundreds."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from detector.networks.base import DetectionNetwork
from detector.networks.head import Predictions

SIZES = 8
"""Sizes of images that are recorded; each keeps the memory of its activations."""

Run = Callable[[Tensor], Predictions]


class Replayed:
    """Runs a network in training as graphs, one for each of the first `SIZES` sizes of batches that come.

    All else, such as further sizes and evaluation, runs as ever. The weights may change, but neither move nor
    be converted. Gradients lie in memory that the next backward writes to: they must not be accumulated over
    batches.

    Args:
        network: on a GPU.
        record: makes a graph for images like some given ones; `record_graph` without one.
    """

    def __init__(
        self, network: DetectionNetwork, record: Callable[[DetectionNetwork, Tensor], Run] | None = None
    ) -> None:
        self.network = network
        self.record = record or record_graph
        self.graphs: dict[object, Run] = {}

    def __call__(self, images: Tensor) -> Predictions:
        """(B, channels, H, W) float images in [0, 1] to predictions, which the next call overwrites."""
        run: Run = self.network
        if self.network.training and torch.is_grad_enabled():
            device = images.device.type
            half = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None
            size = images.shape, images.dtype, half
            if size not in self.graphs and len(self.graphs) < SIZES:
                self.graphs[size] = self.record(self.network, images)
            run = self.graphs.get(size, run)
        return run(images)


class _Flat(nn.Module):
    """A network that gives the tensors with a gradient alone, and keeps the rest aside."""

    said: Predictions

    def __init__(self, network: DetectionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        self.said = self.network(images)
        return _tensors(self.said)


def _tensors(said: Predictions) -> tuple[Tensor, ...]:
    rest = () if said.auxiliary is None else _tensors(said.auxiliary)
    return (said.logits, said.distances, *rest)


def _filled(said: Predictions, logits: Tensor, distances: Tensor, *rest: Tensor) -> Predictions:
    auxiliary = None if said.auxiliary is None else _filled(said.auxiliary, *rest)
    return replace(said, logits=logits, distances=distances, auxiliary=auxiliary)


def record_graph(network: DetectionNetwork, images: Tensor) -> Run:
    """Record a network's forward and backward, within the autocast there is; its buffers stay as they are.

    Args:
        network: in training, on a GPU.
        images: any of the size to record.
    """
    flat = _Flat(network)
    before = [buffer.clone() for buffer in network.buffers()]
    half = torch.get_autocast_dtype("cuda")
    # Weights that autocast keeps converted would be those of the recording for ever.
    with torch.autocast("cuda", half, enabled=torch.is_autocast_enabled("cuda"), cache_enabled=False):
        torch.cuda.make_graphed_callables(flat, (images.clone(),), allow_unused_input=True)  # in place
    torch._foreach_copy_(list(network.buffers()), before)  # its trials moved the norms' statistics
    said = _filled(flat.said, *(tensor.detach() for tensor in _tensors(flat.said)))
    return lambda images: _filled(said, *flat(images))
