"""What happens to a training sample once it is on its canvas."""

from __future__ import annotations

import random
from dataclasses import replace

import albumentations as A
import numpy as np
from numpy.typing import NDArray

from datamodules.batch import Sample
from datamodules.transforms.augment import Augment
from datamodules.transforms.geometry import keep_or_ignore, mirror, visible_share


class Finish:
    """The last step of a training sample: flips, extra transforms by albumentations, and a colour draw."""

    def __init__(self, augment: Augment) -> None:
        self.augment = augment
        # min_visibility stays 0: albumentations would delete the cut boxes that must become ignore boxes.
        # The corners travel as key points, which are never clipped, and tell how large a cut box would be.
        # NoOp takes boxes and points: a chain that takes none, of colours alone, gives a warning.
        self.extra = A.Compose(
            [A.NoOp(), *augment.extra],
            bbox_params=A.BboxParams("pascal_voc"),
            keypoint_params=A.KeypointParams("xy", remove_invisible=False, label_fields=["corner"]),
        )

    def __call__(self, sample: Sample, rng: np.random.Generator) -> Sample:
        """Transform a sample; every random number comes from `rng`.

        Raises:
            ValueError: if an extra transform changed the size of the image.
        """
        horizontal, vertical = rng.random(2) < (self.augment.flip, self.augment.vertical_flip)
        sample = mirror(sample, bool(horizontal), bool(vertical))
        if self.augment.extra:
            sample = self._apply_extra(sample, rng)
        return replace(sample, colour=self._draw_colour(rng) if self.augment.changes_colour else None)

    def _apply_extra(self, sample: Sample, rng: np.random.Generator) -> Sample:
        # One state for the whole chain: `set_random_seed` would give each transform the same stream.
        self.extra.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        objects = len(sample.boxes)
        boxes = np.concatenate([sample.boxes, sample.ignore_boxes])
        indexed = np.column_stack([boxes, np.arange(len(boxes))]).astype(np.float32)
        corners = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
        result = self.extra(
            image=sample.image, bboxes=indexed, keypoints=corners, corner=np.arange(len(corners))
        )
        if result["image"].shape != sample.image.shape:
            raise ValueError(
                f"augment.extra changed the image from {sample.image.shape} to {result['image'].shape} "
                "(height, width, channels): use only transforms that keep the size"
            )
        moved = np.asarray(result["bboxes"], dtype=np.float32).reshape(-1, indexed.shape[1])
        index = moved[:, 4].astype(np.int64)
        moved = moved[:, :4]
        # Distortions drop points outside of the image all the same: there the clipped box has to do.
        whole, points = moved.copy(), np.asarray(result["keypoints"], dtype=np.float32).reshape(-1, 2)
        place = np.full(len(boxes), -1)
        place[index] = np.arange(len(index))
        owner = place[np.asarray(result["corner"], dtype=np.int64) // 4]
        owner, points = owner[owner >= 0], points[owner >= 0]
        np.minimum.at(whole[:, :2], owner, points)
        np.maximum.at(whole[:, 2:], owner, points)
        visible = visible_share(moved, whole)
        is_object = index < objects
        keep, cut = keep_or_ignore(visible, self.augment.min_visibility)
        return replace(
            sample,
            image=result["image"],
            boxes=moved[is_object & keep],
            labels=sample.labels[index[is_object & keep]],
            ignore_boxes=np.concatenate([moved[~is_object & (visible > 0)], moved[is_object & cut]]),
        )

    def _draw_colour(self, rng: np.random.Generator) -> NDArray[np.float32]:
        a = self.augment
        centre = np.array([1.0, 1.0, 1.0, 0.0])
        reach = np.array([a.brightness, a.contrast, a.saturation, a.hue])
        return np.asarray(rng.uniform(centre - reach, centre + reach), dtype=np.float32)
