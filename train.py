"""Train a detector: python train.py --config configs/visdrone_hybrid.yaml [--option value ...]."""

from pinpoint.cli.detection import DetectionCLI
from pinpoint.cli.errors import user_errors


def main(args: list[str] | None = None) -> None:
    """Build model, data and trainer, and fit; args are the command line's."""
    DetectionCLI(args).fit()


if __name__ == "__main__":
    with user_errors():
        main()
