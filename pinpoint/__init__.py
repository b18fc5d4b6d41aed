"""The commands: what train.py, evaluate.py, compare.py and the doctor do, one package each."""

import datamodules  # noqa: F401  # before torch, as it sets how torch's threads wait
