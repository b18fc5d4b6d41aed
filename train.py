"""Train a detector: python train.py --config configs/visdrone_hybrid.yaml [--option value ...]."""

from detector.cli import DetectionCLI, user_errors


def main(args: list[str] | None = None) -> None:
    """Build model, data and trainer, and fit; args are the command line's."""
    cli = DetectionCLI(args)
    cli.trainer.fit(cli.model, cli.datamodule, ckpt_path=cli.config.ckpt_path)


if __name__ == "__main__":
    with user_errors():
        main()
