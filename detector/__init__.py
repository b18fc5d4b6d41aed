"""The detector: network, assigner, postprocessing, LightningModule; and `load`, for use from Python."""

from typing import TYPE_CHECKING, Any

import datamodules  # noqa: F401  # before torch, as it sets how torch's threads wait

if TYPE_CHECKING:
    from detector.inference import load

__all__ = ["load"]


def __getattr__(name: str) -> Any:  # noqa: ANN401  # whatever is asked for
    """Import `load` when it is asked for: `import detector` alone stays light."""
    if name == "load":
        from detector.inference import load

        return load
    raise AttributeError(f"module 'detector' has no attribute {name!r}")
