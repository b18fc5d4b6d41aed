"""The first ten training losses, so that a refactoring shows that it changed nothing.

After a change that is meant to alter training, `PYTHONPATH=. python tests/test_golden_curve.py` stores
the new curve.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tiny import TINY_MODEL, tiny_scenes

from pinpoint.cli.detection import DetectionCLI

STORED = Path(__file__).with_name("golden_curve.json")


class Losses(Callback):
    """Collects every term of every step."""

    def __init__(self) -> None:
        self.curve: list[dict[str, float]] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        logged = trainer.logged_metrics
        self.curve.append(
            {name: float(logged[f"train/{name}"]) for name in ("loss_box", "loss_cls", "loss_dfl")}
        )


def ten_steps(folder: Path) -> list[dict[str, float]]:
    """Losses of ten steps, in double precision and by plain SGD: another CPU's rounding stays small."""
    torch.set_num_threads(1)
    options = [
        *tiny_scenes(folder, images=20),
        *TINY_MODEL,
        "--trainer.accelerator=cpu",
        "--trainer.max_steps=10",
    ]
    options += ["--model.optimizer=SGD", "--model.optimizer.lr=0.002", "--trainer.log_every_n_steps=1"]
    options += [
        "--trainer.precision=64-true",
        "--trainer.limit_val_batches=0",
        "--data.augment.close_mosaic=0",
    ]
    options += [f"--trainer.logger.init_args.save_dir={folder}"]
    cli = DetectionCLI(options, keep_config=False)
    losses = Losses()
    cli.trainer.callbacks.append(losses)
    cli.trainer.fit(cli.model, cli.datamodule)
    return losses.curve


def test_the_first_ten_losses_are_as_stored(tmp_path: Path) -> None:
    stored = json.loads(STORED.read_text())
    curve = ten_steps(tmp_path)
    assert len(curve) == len(stored) == 10
    for step, (now, then) in enumerate(zip(curve, stored, strict=True)):
        # Pixels and boxes are in single precision, and CPUs round them differently, by 1e-7 at first; sooner
        # or later a point changes its object, which moves a loss of two images by up to 0.5 %.
        assert now == pytest.approx(then, rel=1e-4 if step < 4 else 1e-2), f"step {step}"


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        STORED.write_text(json.dumps(ten_steps(Path(folder)), indent=1) + "\n")
