"""Which weights of a network decay, and which learn at a rate of their own."""

from typing import Any

from detector.networks.base import DetectionNetwork


def parameter_groups(network: DetectionNetwork) -> list[dict[str, Any]]:
    """Backbone, neck, head and so on: each with decay on kernels alone, without what is frozen."""
    groups: list[dict[str, Any]] = []
    for name, module in network.named_children():
        parameters = [p for p in module.parameters() if p.requires_grad]
        if not parameters:
            continue
        groups.append({"name": name, "params": [p for p in parameters if p.ndim > 1]})
        vectors = [p for p in parameters if p.ndim <= 1]
        groups.append({"name": f"{name}_no_decay", "params": vectors, "weight_decay": 0.0})
    return groups
