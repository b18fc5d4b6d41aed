"""What tests of several packages share: one tiny training run on generated scenes."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

import train  # before torch, as it sets how torch's threads wait

import torch  # isort: skip

os.environ.setdefault("PINPOINT_TRACEBACK", "1")  # a failing script shows where

TINY_MODEL = ["--model.network.backbone=mobilenetv4_conv_small_050", "--model.network.channels=16"]


def tiny_scenes(root: Path, images: int = 6) -> list[str]:
    """Options for a few small generated scenes."""
    return [
        "--data=ScenesDataModule",
        f"--data.root={root / 'scenes'}",
        f"--data.train_count={images}",
        "--data.val_count=3",
        "--data.scene_size=[96,96]",
        "--data.image_size=[96,96]",
        "--data.batch_size=2",
        "--data.num_workers=0",
    ]


@dataclass(frozen=True)
class Run:
    """A finished training run."""

    folder: Path
    scenes: list[str]

    @property
    def best(self) -> Path:
        return self.folder / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        return self.folder / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two epochs on tiny scenes."""
    root = tmp_path_factory.mktemp("run")
    scenes = tiny_scenes(root)
    train.main(
        [
            *scenes,
            *TINY_MODEL,
            "--trainer.max_epochs=2",
            "--trainer.accelerator=cpu",
            f"--trainer.logger.init_args.save_dir={root}",
            "--trainer.logger.init_args.name=tiny",
            "--trainer.log_every_n_steps=1",
        ]
    )
    return Run(root / "tiny" / "version_0", scenes)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from threads, and sums come out alike on every machine."""
    torch.set_num_threads(1)
