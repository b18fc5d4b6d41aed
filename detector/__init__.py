"""The detector: network, assigner, postprocessing, LightningModule and command line."""

import os

# Before torch is imported: its CPU threads then sleep while they wait for each other. By default they spin,
# and where another process needs a core too (a loader's worker will do) a step takes four times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
