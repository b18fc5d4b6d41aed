"""Widths and depths of YOLOv9's four sizes."""

from dataclasses import dataclass
from typing import Literal, get_args

SizeName = Literal["t", "s", "m", "c"]


@dataclass(frozen=True)
class Size:
    """Channels by stride in pixels, unless said otherwise.

    Attributes:
        stem: channels of the first two convolutions, at strides 2 and 4.
        stages: channels of the backbone's maps.
        parts: width within the block that makes each of them.
        shrunk: channels of the maps that the backbone's downsampling makes.
        fused: channels of the neck's maps, and width within its blocks.
        lifted: channels of the maps that the neck's downsampling makes.
        depth: bottlenecks in each half of a block.
        class_width: channels of the head's class branch.
        elan_first: whether the stage at stride 4 is an ELAN, without bottlenecks.
        adown: whether ADown downsamples, instead of AConv.
    """

    stem: tuple[int, int]
    stages: dict[int, int]
    parts: dict[int, int]
    shrunk: dict[int, int]
    fused: dict[int, int]
    lifted: dict[int, int]
    depth: int
    class_width: int
    elan_first: bool = False
    adown: bool = False


# The neck's values at strides 4 and 8 that only a pyramid with stride 4 uses are ours; the others belong to
# the public weights. Size t has a class width of 80, as its weights have, whatever the number of classes.
SIZES: dict[SizeName, Size] = {
    "t": Size(
        stem=(16, 32),
        stages={4: 32, 8: 64, 16: 96, 32: 128},
        parts={4: 32, 8: 64, 16: 96, 32: 128},
        shrunk={8: 64, 16: 96, 32: 128},
        fused={4: 32, 8: 64, 16: 96, 32: 128},
        lifted={8: 32, 16: 48, 32: 64},
        depth=3,
        class_width=80,
        elan_first=True,
    ),
    "s": Size(
        stem=(32, 64),
        stages={4: 64, 8: 128, 16: 192, 32: 256},
        parts={4: 64, 8: 128, 16: 192, 32: 256},
        shrunk={8: 128, 16: 192, 32: 256},
        fused={4: 64, 8: 128, 16: 192, 32: 256},
        lifted={8: 64, 16: 96, 32: 128},
        depth=3,
        class_width=128,
        elan_first=True,
    ),
    "m": Size(
        stem=(32, 64),
        stages={4: 128, 8: 240, 16: 360, 32: 480},
        parts={4: 128, 8: 240, 16: 360, 32: 480},
        shrunk={8: 240, 16: 360, 32: 480},
        fused={4: 128, 8: 240, 16: 360, 32: 480},
        lifted={8: 120, 16: 184, 32: 240},
        depth=1,
        class_width=240,
    ),
    "c": Size(
        stem=(64, 128),
        stages={4: 256, 8: 512, 16: 512, 32: 512},
        parts={4: 128, 8: 256, 16: 512, 32: 512},
        shrunk={8: 256, 16: 512, 32: 512},
        fused={4: 128, 8: 256, 16: 512, 32: 512},
        lifted={8: 128, 16: 256, 32: 512},
        depth=1,
        class_width=256,
        adown=True,
    ),
}


def size_named(name: str) -> Size:
    """The size of a name.

    Raises:
        ValueError: there is none.
    """
    if name not in get_args(SizeName):
        raise ValueError(f"YOLOv9 comes in the sizes {', '.join(SIZES)}, not {name!r}")
    return SIZES[name]  # type: ignore[index]  # just checked
