"""The detector: network, assigner, postprocessing, LightningModule and callbacks."""

import datamodules  # noqa: F401  # before torch, as it sets how torch's threads wait
