"""Train a detector: python train.py --config configs/visdrone_hybrid.yaml [--option value ...]."""

from detector.cli import DetectionCLI, user_errors


def main() -> None:
    """Fit, then score the best checkpoint's weights."""
    cli = DetectionCLI()
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.config.ckpt_path)


if __name__ == "__main__":
    with user_errors():
        main()
