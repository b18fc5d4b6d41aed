"""The detector: network, assigner, postprocessing, LightningModule and command line."""
