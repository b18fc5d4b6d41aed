"""Batch norms whose statistics are those of all ranks' images, and the same norms on their own again."""

from __future__ import annotations

from typing import Any, TypeVar

from timm.layers.norm_act import BatchNormAct2d, SyncBatchNormAct, convert_sync_batchnorm
from torch import nn

M = TypeVar("M", bound=nn.Module)

PARTS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked", "training")


def synchronised(module: M) -> M:
    """The module with norms that bring their statistics together; weights and their names stay.

    By timm, whose norms have an activation in them: torch's own conversion loses it, without a word.
    """
    converted: M = convert_sync_batchnorm(module)  # type: ignore[no-untyped-call]
    return converted


def local(module: M) -> M:
    """The module with norms of its own statistics again, in place; what was not converted stays as it is."""
    for name, norm in list(module.named_modules()):
        if isinstance(norm, nn.SyncBatchNorm):
            module.set_submodule(name, _local(norm))
    return module


def _local(norm: nn.SyncBatchNorm) -> nn.BatchNorm2d:
    kind: Any = BatchNormAct2d if isinstance(norm, SyncBatchNormAct) else nn.BatchNorm2d
    made: nn.BatchNorm2d = kind(norm.num_features, norm.eps, norm.momentum)
    for part in PARTS:
        setattr(made, part, getattr(norm, part))
    if isinstance(norm, SyncBatchNormAct):
        made.drop, made.act = norm.drop, norm.act
    return made
