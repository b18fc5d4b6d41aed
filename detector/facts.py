"""What must be known of a trained network to use it, wherever its weights are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from datamodules.limits import require_between

FALLBACK = 0.3
"""Score threshold of a class for which none of best F1 is known."""

FILL = 127
"""Grey level around a letterboxed image."""


@dataclass(frozen=True)
class ModelFacts:
    """What travels with the weights: in a checkpoint's place, or in the metadata of an exported file.

    Images are RGB, if of three channels, scaled to fit `image_size`, centred, with `fill` around them.

    Attributes:
        class_names: name of each class index.
        image_size: (height, width) of the network's input, pixels.
        thresholds: score from which each class is shown, where its F1 on the validation images was best;
            `FALLBACK` where that is not known.
        postprocess: arguments of `detector.postprocess.Postprocess`.
        in_channels: channels of the input.
        fill: grey level of the canvas around an image.
    """

    class_names: tuple[str, ...]
    image_size: tuple[int, int]
    thresholds: tuple[float, ...]
    postprocess: Mapping[str, Any]
    in_channels: int = 3
    fill: int = FILL

    @property
    def bands(self) -> int:
        """Channels that its images are read with: a network of one takes the mean of three."""
        return 3 if self.in_channels == 1 else self.in_channels

    def to_json(self) -> str:
        """As one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelFacts:
        """Back from `to_json`.

        Raises:
            ValueError: not what `to_json` writes.
        """
        try:
            fields = json.loads(text)
            pairs = {name: tuple(fields[name]) for name in ("class_names", "image_size", "thresholds")}
            facts = cls(**(fields | pairs))
            if not facts.class_names or len(facts.thresholds) != len(facts.class_names):
                raise ValueError(f"{len(facts.thresholds)} thresholds for {len(facts.class_names)} classes")
            height, width = facts.image_size
            require_between("the smaller of image_size", min(height, width), 1, 2**14)
            require_between("fill", facts.fill, 0, 255)
            if not isinstance(facts.postprocess, Mapping):
                raise TypeError("postprocess is no mapping")
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"these are not the facts of a model of ours: {error}") from error
        return facts
