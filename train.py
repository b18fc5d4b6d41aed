"""Train a detector: python train.py --config configs/visdrone_hybrid.yaml [--option value ...]."""

from pinpoint.cli.errors import user_errors
from pinpoint.cli.train import main

if __name__ == "__main__":
    with user_errors():
        main()
