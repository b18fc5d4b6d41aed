"""A trained detector for use from Python: images in, detections out.

No Trainer, no data set; several threads may share a model. Nothing global is changed but Pillow's limit of
pixels and OpenCV's word about the tags of TIFFs.

B images, A points of an image, C classes, n detections of an image.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby, islice
from numbers import Real
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from datamodules.drawing import as_rgb, draw_found
from datamodules.images.decoding import read_image_file
from datamodules.images.headers import SIXTEEN_BITS
from datamodules.images.windows import Decoded, Source, open_image
from detector.exported import ExportedForward, is_exported
from detector.facts import FALLBACK, ModelFacts
from detector.networks.base import match_channels
from detector.postprocess import Detections, Postprocess, Suppression
from detector.tiling.merging import merge_views
from detector.tiling.views import Merge, Tiling, View

OneImage = str | Path | NDArray[np.uint8] | Image.Image | Tensor
"""A file; (H, W, 3) or grey (H, W) uint8; a PIL image; a (3, H, W) tensor, uint8 or float in [0, 1]. For a
model of more channels those in place of three."""

__all__ = ["FALLBACK", "Forward", "Model", "ModelFacts", "Prediction", "load"]

OVERSHOT = 0.1
"""How far beyond [0, 1] numbers of an image may lie; they are clipped."""

AnySource = TypeVar("AnySource", bound=Source)

Forward = Callable[[Tensor], tuple[Tensor, Tensor]]
"""(B, C, H, W) uint8 RGB images on the CPU to logits (B, A, C), boxes (B, A, 4) float32 xyxy pixels of them.

Called from several threads at once; must change nothing that is global."""


@dataclass(frozen=True, slots=True)
class Prediction(Detections):
    """The detections of one image, by score descending, in its pixels.

    Attributes:
        class_names: name of each class index.
        image: what was looked at, a path or the pixels (H, W, 3) uint8 RGB.
    """

    class_names: tuple[str, ...] = ()
    image: str | NDArray[np.uint8] = field(default="", repr=False)

    @property
    def names(self) -> list[str]:
        """Class name of each detection: n of them."""
        return [self.class_names[label] for label in self.labels.tolist()]

    def draw(self) -> NDArray[np.uint8]:
        """The image with its detections: (H, W, 3) uint8 RGB; see `datamodules.drawing.draw_found`.

        Raises:
            ValueError: the file of the image is no longer there.
        """
        seen = read_image_file(self.image, bands=None) if isinstance(self.image, str) else self.image
        drawn = as_rgb(seen).copy()
        words = [f"{name} {score:.2f}" for name, score in zip(self.names, self.scores.tolist(), strict=True)]
        draw_found(drawn, self.boxes.numpy(), self.labels.numpy(), words)
        return drawn

    def to_supervision(self) -> Any:  # noqa: ANN401  # supervision.Detections
        """As `supervision.Detections`, class names under `data["class_name"]`.

        Raises:
            ValueError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise ValueError(
                "to_supervision() needs the package supervision: pip install 'pinpoint-detector[track]'"
            ) from error
        return supervision.Detections(
            xyxy=self.boxes.numpy(),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy(),
            data={"class_name": np.array(self.names, dtype=str)},
        )


class Model:
    """A trained detector; may be called from several threads at once.

    Args:
        forward: what computes, see `Forward`.
        facts: what is known of it.
        postprocess: predictions to detections; as `facts` say if not given.
        device: where `forward` computes; told, not used.
    """

    def __init__(
        self, forward: Forward, facts: ModelFacts, postprocess: Postprocess | None = None, device: str = "cpu"
    ) -> None:
        self.forward, self.facts, self.device = forward, facts, device
        self.postprocess = postprocess or Postprocess(**facts.postprocess)

    def predict(
        self,
        images: OneImage | list[OneImage] | tuple[OneImage, ...],
        *,
        thresholds: float | Mapping[str, float] | None = None,
        bgr: bool = False,
        batch_size: int = 4,
        tile: int | Sequence[int] | None = None,
        overlap: float = 0.2,
        whole: bool = False,
        merge: Merge = "nmm",
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        suppression: Suppression | None = None,
        class_agnostic: bool | None = None,
    ) -> Any:  # noqa: ANN401  # one or a list, as images are
        """Find the objects of an image, or of each of a list.

        Args:
            images: one image or a list of images, see `OneImage`.
            thresholds: score from which a detection is shown: for all classes, or by class name; where not
                given, the model's own, at which F1 was best on its validation images.
            bgr: the channels of arrays and tensors are blue, green, red, as OpenCV reads them, not RGB.
            batch_size: images, or tiles, that are looked at together.
            tile: longer side of the tiles, pixels of the image, or several; see
                `detector.tiling.views.Tiling` for this and the next five.
            overlap: least share of a tile that the next one shows too.
            whole: look at the whole image, beside its tiles.
            merge: what becomes of the detections of one object in several views.
            scales: sizes of what is shown relative to the network's input.
            flip: look at everything mirrored, too.
            suppression: "nms" or "soft"; as the model was trained to be scored if not given.
            class_agnostic: whether classes suppress each other; likewise.

        Returns:
            A `Prediction` for an image, a list of them for a list.

        Raises:
            ValueError: a file that is no image, pixels of another kind, a class that the model does not
                know, or an option out of its range.
        """
        tiling = Tiling(tile, overlap, whole, scales, flip, merge)
        model = self.suppressing(suppression, class_agnostic)
        least = self.thresholds(thresholds)
        model = model.above(least) if tiling.plain else model
        single = not isinstance(images, list | tuple)
        every: Sequence[OneImage] = [images] if single else images  # type: ignore[assignment,list-item]
        bands = self.facts.bands
        sources = (
            open_image(str(image), bands)
            if isinstance(image, str | Path)
            else Decoded(to_pixels(image, bgr, bands))
            for image in every
        )
        found = []
        for image, (source, detections) in zip(every, model.find(sources, tiling, batch_size), strict=True):
            seen = source.pixels if isinstance(source, Decoded) else ""
            seen = str(image) if isinstance(image, str | Path) else seen
            found.append(self.shown(detections, least, seen))
        return found[0] if single else found

    def find(
        self, sources: Iterable[AnySource], tiling: Tiling, batch_size: int = 4
    ) -> Iterator[tuple[AnySource, Detections]]:
        """Look at images one after the other, and merge what the views of each find.

        Args:
            sources: opened when they are due, shortly before they are looked at; closed afterwards.
            tiling: how they are looked at.
            batch_size: views that are looked at together, of different images too.

        Yields:
            Each image and its detections, by score descending, in its pixels.

        Raises:
            ValueError: see `look` and `views`.
        """
        opened: deque[tuple[AnySource, list[View]]] = deque()

        def jobs() -> Iterator[tuple[Source, View]]:
            for source in sources:
                views = self.views(source.size, tiling)
                opened.append((source, views))
                yield from ((source, view) for view in views)

        looks = self.look(jobs(), batch_size)
        for first in looks:
            source, views = opened.popleft()
            found = [first, *islice(looks, len(views) - 1)]
            yield source, self.merge(views, found, source.size, tiling)
            source.close()

    def suppressing(self, suppression: Suppression | None, class_agnostic: bool | None) -> Model:
        """The same model with another suppression; what is None stays as it is."""
        given = {"suppression": suppression, "class_agnostic": class_agnostic}
        changes = {name: value for name, value in given.items() if value is not None}
        arguments = self.postprocess.arguments() | changes
        return Model(self.forward, self.facts, Postprocess(**arguments), self.device)

    def above(self, least: Tensor) -> Model:
        """The same model that looks no further at what stays below the least score (C,) of every class.

        What is above is the same where an image is one view, for only better detections suppress others;
        merging tiles may need the worse ones.
        """
        arguments = self.postprocess.arguments()
        threshold = float(np.nextafter(np.float32(least.min()), np.float32(0)))
        arguments["score_threshold"] = max(threshold, arguments["score_threshold"])
        return Model(self.forward, self.facts, Postprocess(**arguments), self.device)

    def views(self, size: tuple[int, int], tiling: Tiling) -> list[View]:
        """All views of an image of a size (height, width); always the same ones, in the same order.

        With `look`, `merge` and `shown` what `predict` does can be done in steps, and a large image be gone
        on with after an interruption: keep what each view found.

        Raises:
            ValueError: see `Tiling.views`.
        """
        return tiling.views(size, self.facts.image_size)

    @torch.inference_mode()
    def look(self, jobs: Iterable[tuple[Source, View]], batch_size: int = 4) -> Iterator[Detections]:
        """What each view of its image finds, in their order, in batches; the next is read meanwhile.

        Args:
            jobs: images and views of them; asked for by another thread.
            batch_size: views that are looked at together; those of other canvases are not.

        Yields:
            The detections of the next view, by score descending, in pixels of its image, on the CPU.

        Raises:
            ValueError: the image cannot be read, or there is no batch.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        drawn = self._draw(jobs, batch_size)
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(next, drawn, None)
            while (batch := ahead.result()) is not None:
                ahead = reader.submit(next, drawn, None)
                views, canvases = batch
                logits, boxes = self.forward(torch.from_numpy(canvases).permute(0, 3, 1, 2))
                for view, one in zip(views, self.postprocess(logits, boxes), strict=True):
                    seen = view.to_image(one.boxes.cpu())
                    kept = (seen[:, :2] < seen[:, 2:]).all(1)  # not in the grey around the image
                    yield Detections(seen[kept], one.scores.cpu()[kept], one.labels.cpu()[kept])

    def _draw(
        self, jobs: Iterable[tuple[Source, View]], batch_size: int
    ) -> Iterator[tuple[list[View], NDArray[np.uint8]]]:
        """Batches of views, and their canvases (B, H, W, bands)."""
        for (shape, bands), same in groupby(jobs, key=lambda job: (job[1].canvas, job[0].bands)):
            while batch := list(islice(same, batch_size)):
                canvases = np.full((len(batch), *shape, bands), self.facts.fill, dtype=np.uint8)
                for (source, view), canvas in zip(batch, canvases, strict=True):
                    view.draw(source, canvas)
                yield [view for _, view in batch], canvases

    def merge(
        self, views: Sequence[View], found: Sequence[Detections], size: tuple[int, int], tiling: Tiling
    ) -> Detections:
        """Merge what all views of an image of a size (height, width) found, see `merge_views`."""
        return merge_views(views, found, size, tiling.merge, self.postprocess.class_agnostic)

    def shown(self, detections: Detections, least: Tensor, image: str | NDArray[np.uint8]) -> Prediction:
        """The detections of an image, a path or pixels, that reach the least score (C,) of their class."""
        kept = detections.scores >= least[detections.labels]
        fields = detections.boxes[kept], detections.scores[kept], detections.labels[kept]
        return Prediction(*fields, self.facts.class_names, image)

    def thresholds(self, given: float | Mapping[str, float] | None) -> Tensor:
        """Least score of each class: (C,) float32.

        Args:
            given: for all classes, or by class name; the model's own where not given.

        Raises:
            ValueError: a class that the model does not know, or no score.
        """
        if given is not None and not isinstance(given, Real | Mapping):
            raise ValueError(f"thresholds must be a score, or scores by class name, not {given!r}")
        least, names = torch.tensor(self.facts.thresholds), self.facts.class_names
        by_name = dict.fromkeys(names, given) if isinstance(given, Real) else given or {}
        for name, threshold in by_name.items():
            if name not in names:
                raise ValueError(f"a threshold for {name!r}, but the model's classes are {', '.join(names)}")
            if not (isinstance(threshold, Real) and 0 <= threshold <= 1):
                raise ValueError(f"a threshold must be a score in [0, 1], not {threshold!r}")
            least[names.index(name)] = float(threshold)
        return least


def load(path: str | Path, device: str = "auto") -> Model:
    """A detector from a file, ready for `Model.predict`.

    Args:
        path: checkpoint of train.py, file of export.py, folder of its format hub, or hf://ORGANISATION/NAME.
        device: "cpu", "cuda" and so on; "auto" for a GPU where there is one. Exported files compute where
            their runtime does.

    Raises:
        ValueError: no such file, not one of ours, or no such device.
    """
    if is_exported(path):
        forward = ExportedForward(Path(path))
        return Model(forward, forward.facts)
    return _load_checkpoint(str(path), device)


def _load_checkpoint(path: str, device: str) -> Model:
    from detector.checkpoint import build, load_checkpoint
    from detector.networks.fusion import activate, fuse

    network, facts = build(load_checkpoint(path))
    network = fuse(network)
    where = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        network = activate(network) if where == "cpu" else network.to(where)
    except (RuntimeError, AssertionError) as error:  # torch without the device, or its driver
        reason = f"{error}".split("\n")[0]
        raise ValueError(f"no device {where} here ({reason}): give auto, cpu, cuda or cuda:1") from error

    def forward(images: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode():
            scaled = images.to(where).float().div_(255)
            predictions = network(match_channels(scaled, network.in_channels))
            return predictions.logits, predictions.boxes()

    return Model(forward, facts, device=where)


def to_pixels(image: Any, bgr: bool = False, bands: int = 3) -> NDArray[np.uint8]:  # noqa: ANN401  # see `OneImage`
    """The pixels of an image that is there: (H, W, bands) uint8, RGB if three, as displayed.

    Args:
        image: see `OneImage`.
        bgr: swap the first three channels of an array or tensor.
        bands: channels that are wanted.

    Raises:
        ValueError: of no such kind, or with others.
    """
    if isinstance(image, Image.Image):
        image, bgr = _pixels_of_pil(image), False
    if isinstance(image, Tensor):
        if image.is_floating_point():
            # Resizing may overshoot a little; what is NaN is not within either.
            if not ((image > -OVERSHOT) & (image < 1 + OVERSHOT)).all():
                raise ValueError("a tensor of floating-point numbers must lie in [0, 1]: divide it by 255")
            image = (image * 255).round().clamp(0, 255).byte()
        image = image.permute(1, 2, 0).cpu().numpy() if image.ndim == 3 else image.cpu().numpy()
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise ValueError(f"an image must be a path, PIL image, tensor or array of uint8, not {kind}")
    if image.ndim == 2:
        image = image[..., None]
    if bands == 3 and image.ndim == 3 and image.shape[2] in (1, 4):  # grey, or with transparency
        image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[..., :3]
    if image.ndim != 3 or image.shape[2] != bands or not image.size:
        raise ValueError(
            f"an image must be (height, width) and {'3 or 4' if bands == 3 else bands} channels (tensors: "
            f"these first), not {image.shape}"
        )
    pixels: NDArray[np.uint8] = np.dstack((image[..., 2::-1], image[..., 3:])) if bgr else image
    return pixels


def _pixels_of_pil(image: Image.Image) -> NDArray[np.uint8]:
    """As a file of it would be read: turned, and of 16 bits the upper ones, where Pillow would clip them."""
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I"):
        warnings.warn(f"an image {SIXTEEN_BITS}", stacklevel=4)
        upper: NDArray[np.uint8] = np.clip(np.asarray(turned) >> 8, 0, 255).astype(np.uint8)
        return upper
    return np.asarray(turned.convert("RGB"))
