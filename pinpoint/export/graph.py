"""The graph that every exported file holds.

B images, A points of all levels, C classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from detector.exported import METADATA_FILES, image_channels
from detector.networks.base import DetectionNetwork, match_channels
from detector.networks.fusion import fuse

INPUT, OUTPUTS = "images", ("boxes", "scores")


class Graph(nn.Module):
    """Images as they are decoded to boxes and scores, preprocessing inside.

    Args:
        network: in evaluation mode, float32 or half precision.
    """

    def __init__(self, network: DetectionNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) uint8 RGB to boxes (B, A, 4) xyxy pixels and scores (B, A, C), both float32."""
        predictions = self.network(match_channels(images.float() / 255, self.network.in_channels))
        return predictions.boxes(), predictions.logits.float().sigmoid()


def trace(network: DetectionNetwork, half: bool = False) -> ExportedProgram:
    """Record the network, its layers fused, for any number of images of any size.

    Args:
        network: images to `Predictions`; stays as it is.
        half: compute in half precision; boxes and scores come out in float32 nevertheless.

    Returns:
        The program of a `Graph`. Height and width must each be larger than the largest stride.
    """
    network = fuse(network).cpu()
    graph = Graph(network.half() if half else network)
    # Two images, for a batch of one would become a constant; the size is arbitrary.
    images = torch.zeros(2, image_channels(network.in_channels), 256, 320, dtype=torch.uint8)
    free = {0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with torch.no_grad():
        return torch.export.export(graph, (images,), dynamic_shapes={INPUT: free}, strict=False)


def save_program(program: ExportedProgram, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a torch.export file, which torch runs without any code of ours.

    Args:
        program: see `trace`.
        path: ends in .pt2.
        metadata: what `METADATA_FILES` names.
    """
    files = {METADATA_FILES[name]: text for name, text in metadata.items()}
    with warnings.catch_warnings():  # of torch 2.14's own, about weights that are on the CPU
        warnings.filterwarnings("ignore", message="No complete tensor found in the group")
        torch.export.save(program, path, extra_files=files)
