"""From a checkpoint to files that run without training code, and the gate that they pass first."""
