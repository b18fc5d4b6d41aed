"""Norms with the statistics of all ranks' images, as `--trainer.sync_batchnorm=true` asks for."""

from __future__ import annotations

from lightning.pytorch.plugins.layer_sync import TorchSyncBatchNorm
from torch import nn

from detector.networks.norms import local, synchronised


class CommonNorms(TorchSyncBatchNorm):
    """Lightning's way to such norms, by a conversion that keeps the activations in timm's."""

    def apply(self, model: nn.Module) -> nn.Module:
        """Convert the norms of a model; a training begins."""
        return synchronised(model)

    def revert(self, model: nn.Module) -> nn.Module:
        """Convert them back; it is over."""
        return local(model)
