"""Reading, transforming and batching of detection data."""

import os

# When imported, albumentations asks a server for its newest version: no run should wait for that.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
