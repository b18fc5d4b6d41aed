"""Activation checkpointing: blocks keep their input alone; the backward pass computes the rest again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@contextmanager
def recomputed(network: nn.Module) -> Iterator[None]:
    """Let a training network that works inside this context keep less for its backward pass.

    The step is the same, norms' running statistics included; it takes about a third longer. Blocks are the
    outermost sequences of layers, and members of lists: stages of a backbone, branches of a head.

    Args:
        network: of any kind; compiled networks choose themselves what they keep.
    """
    blocks = list(_blocks(network))
    for block in blocks:
        block.forward = partial(_forward, block)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # the class's own is left


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    # Not classes made from these: timm's FeatureGetterNet is a ModuleDict that never calls its member.
    listed = type(module) in (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    layers = [child for child in module.children() if next(child.children(), None) is None]
    if type(module) is nn.Sequential and layers:  # of single layers, such as a stem
        yield module
        return
    for child in module.children():
        if listed and child not in layers:
            yield child
        else:
            yield from _blocks(child)


def _forward(block: nn.Module, *inputs: Any) -> Any:  # noqa: ANN401  # whatever the block takes and gives
    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _statistics_kept(block)

    versions = [x._version for x in inputs if isinstance(x, Tensor)]
    outputs = checkpoint(
        partial(type(block).forward, block), *inputs, use_reentrant=False, context_fn=contexts
    )
    if versions != [x._version for x in inputs if isinstance(x, Tensor)]:
        raise ValueError(
            f"model.checkpoint_activations: {type(block).__name__} of this backbone changes its input in "
            "place, so it cannot compute twice: choose another backbone, or a smaller data.batch_size"
        )
    return outputs


@contextmanager
def _statistics_kept(block: nn.Module) -> Iterator[None]:
    """Norms as in training, but their running statistics stay as they are.

    They are moved by nothing of the way, and not left out, because the second pass must save what the first
    one did.
    """
    norms: list[Any] = [m for m in block.modules() if getattr(m, "track_running_stats", False)]
    before = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, (momentum, count) in zip(norms, before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count
