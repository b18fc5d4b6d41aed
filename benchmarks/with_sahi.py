"""SAHI (MIT) beside our tiles, where it is installed; for benchmarks/tiling.py."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sahi.models.base import DetectionModel
from sahi.postprocess.combine import GreedyNMMPostprocess
from sahi.predict import get_sliced_prediction
from sahi.prediction import ObjectPrediction

from datamodules.images.windows import Decoded
from detector.inference import Model
from detector.postprocess import Detections
from detector.tiling.views import Tiling, View


def sahi_way(
    model: Model, threshold: float, force: bool, tile: int, overlap: float
) -> Callable[[np.ndarray], Detections]:
    """Sliced prediction by SAHI with our network and suppression, one slice at a time, as it does on CPUs.

    With thresholds below 0.1 it suppresses, in place of merging, unless `force` is set.
    """

    class Ours(DetectionModel):  # type: ignore[misc]
        def load_model(self) -> None:
            self.model = model
            self.category_mapping = {str(i): name for i, name in enumerate(model.facts.class_names)}

        def perform_inference(self, image: np.ndarray) -> None:
            view = View((0, 0, image.shape[1], image.shape[0]), model.facts.image_size)
            canvas = np.full((1, *view.canvas, 3), model.facts.fill, np.uint8)
            view.draw(Decoded(image), canvas[0])
            with torch.inference_mode():
                (found,) = model.postprocess(*model.forward(torch.from_numpy(canvas).permute(0, 3, 1, 2)))
            self._original_predictions = Detections(view.to_image(found.boxes), found.scores, found.labels)

        def _create_object_prediction_list_from_original_predictions(
            self, shift_amount_list: list[Any] | None = None, full_shape_list: list[Any] | None = None
        ) -> None:
            shift, full = shift_amount_list or [[0, 0]], full_shape_list
            shift = shift[0] if isinstance(shift[0], list | tuple) else shift
            full = full[0] if full and isinstance(full[0], list | tuple) else full
            found = self._original_predictions
            rows = zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True)
            self._object_prediction_list_per_image = [
                [
                    ObjectPrediction(
                        bbox=box,
                        category_id=label,
                        category_name=self.category_mapping[str(label)],
                        score=score,
                        shift_amount=shift,
                        full_shape=full,
                    )
                    for box, score, label in rows
                    if score >= self.confidence_threshold and box[0] < box[2] and box[1] < box[3]
                ]
            ]

    wrapped = Ours(confidence_threshold=threshold, device="cpu")
    height, width = Tiling(tile).views((10**5, 10**5), model.facts.image_size)[0].window[:1:-1]

    def look(pixels: np.ndarray) -> Detections:
        result = get_sliced_prediction(
            pixels,
            wrapped,
            slice_height=height,
            slice_width=width,
            overlap_height_ratio=overlap,
            overlap_width_ratio=overlap,
            perform_standard_pred=False,
            verbose=0,
            force_postprocess_type=force,
        )
        return from_sahi(result.object_prediction_list)

    return look


def from_sahi(objects: Sequence[Any]) -> Detections:
    """Its result as ours, by score descending."""
    boxes = torch.tensor([one.bbox.to_xyxy() for one in objects], dtype=torch.float32).reshape(-1, 4)
    scores = torch.tensor([one.score.value for one in objects], dtype=torch.float32)
    labels = torch.tensor([one.category.id for one in objects], dtype=torch.int64)
    order = scores.argsort(descending=True, stable=True)
    return Detections(boxes[order], scores[order], labels[order])


def merge_as_sahi(found: list[Detections], size: tuple[int, int]) -> Detections:
    """Merging alone, as its sliced prediction does it, of what the slices of an image found."""
    objects = [
        ObjectPrediction(bbox=box, category_id=0, category_name="object", score=score, full_shape=list(size))
        for one in found
        for box, score in zip(one.boxes.tolist(), one.scores.tolist(), strict=True)
    ]
    return from_sahi(GreedyNMMPostprocess(0.5, "IOS", class_agnostic=False)(objects))
