"""The smallest training worth the name, for tests of several packages."""

from dataclasses import dataclass
from pathlib import Path

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
