"""Runs exported files: images to class logits and boxes, as a network does.

B images, A points of all levels, C classes.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.facts import ModelFacts
from detector.intact import check_sums, is_configuration
from detector.postprocess import Detections
from detector.sealed import require_unchanged

METADATA, METADATA_PREFIX = "pinpoint", "pinpoint."
"""Where an OpenVINO file keeps our metadata, and how their names in an ONNX file begin.

They are: facts, see `detector.facts.ModelFacts`; config, the training's configuration as YAML."""

PRECISION = "precision"
"""Beside our metadata: what an OpenVINO file is to be computed in; without it the device chooses."""

METADATA_FILES = {"facts": "pinpoint_facts.json", "config": "pinpoint_config.yaml"}
"""Files within a torch.export file that hold them."""

Run = Callable[[Tensor, Sequence[str]], list[Tensor]]
"""(B, 3, H, W) uint8 RGB and the names of the outputs wanted to these outputs."""


def need(package: str, extra: str) -> Any:  # noqa: ANN401  # a module
    """Import a package that is not always installed.

    Args:
        package: to import.
        extra: of ours that installs it.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ValueError(
            f"{package} cannot be imported ({error}): pip install 'pinpoint-detector[{extra}]'"
        ) from error


class ExportedForward:
    """A file that export.py wrote, as a `Forward`; may be called from several threads.

    Args:
        path: .onnx, .xml (OpenVINO, its .bin beside it) or .pt2.

    Attributes:
        path: of the file.
        facts: what it knows of itself.
        config: configuration of the training, YAML.

    Raises:
        ValueError: no such file, one that cannot be read or is damaged, or one that export.py did not write.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ValueError(f"no file at {path}: give one that export.py wrote")
        self.path = path
        try:
            self._run, metadata = OPENERS[path.suffix.lower()](path)
        except ValueError:
            raise
        except Exception as error:
            raise ValueError(f"{path} cannot be read: is the file complete? ({error})") from error
        if not all(metadata.values()):
            raise ValueError(
                f"{path} was not written by export.py: it does not say its classes, size and preprocessing"
            )
        self.facts, self.config = ModelFacts.from_json(metadata["facts"]), metadata["config"]
        if not is_configuration(self.config):
            raise ValueError(f"{path} was not written by export.py: its config is not a configuration")

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) uint8 RGB to logits (B, A, C) and boxes (B, A, 4) xyxy pixels of the input.

        Raises:
            ValueError: see `run`.
        """
        boxes, scores = self.run(images, ["boxes", "scores"])
        return torch.logit(scores), boxes

    def run(self, images: Tensor, names: Sequence[str]) -> list[Tensor]:
        """(B, 3, H, W) uint8 RGB and the names of the outputs wanted to these outputs.

        Raises:
            ValueError: the runtime cannot, most often for images that are too small.
        """
        try:
            return self._run(images.contiguous(), names)
        except Exception as error:  # of a kind of each runtime's own
            size = " x ".join(map(str, images.shape))
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise ValueError(
                f"{self.path} cannot be run on images of {size} (batch, channels, height, width): both sides "
                f"must be larger than the largest stride of its network ({reason})"
            ) from error

    def suppressed(self, images: Tensor) -> list[Detections]:
        """What a file with suppression inside finds in each of (B, 3, H, W) uint8 RGB images.

        Raises:
            ValueError: see `run`.
        """
        (rows,) = self.run(images, ["detections"])
        rows = rows[rows[:, 5].argsort(descending=True, stable=True)]
        most = self.facts.postprocess["max_detections"]
        found = (rows[rows[:, 0] == image][:most] for image in range(len(images)))
        return [Detections(one[:, 1:5], one[:, 5], one[:, 6].long()) for one in found]


def _open_onnx(path: Path) -> tuple[Run, dict[str, str]]:
    runtime = need("onnxruntime", "onnx")
    require_unchanged(path)
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # warnings about the graph are of no use to who runs it
    quiet = runtime.RunOptions()
    quiet.log_severity_level = 4  # what goes wrong is raised as well
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    providers = [name for name in wanted if name in runtime.get_available_providers()]
    session = runtime.InferenceSession(path, options, providers)

    def run(images: Tensor, names: Sequence[str]) -> list[Tensor]:
        outputs = session.run(names, {"images": images.numpy()}, quiet)
        return [torch.from_numpy(output) for output in outputs]

    found = session.get_modelmeta().custom_metadata_map
    return run, {name: found.get(METADATA_PREFIX + name, "") for name in METADATA_FILES}


def _open_openvino(path: Path) -> tuple[Run, dict[str, str]]:
    openvino = need("openvino", "openvino")
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise ValueError(f"{path} cannot be read: its weights, {weights.name}, must lie beside it")
    require_unchanged(path)
    core = openvino.Core()
    model = core.read_model(path)
    keys = {name: [METADATA, name] for name in METADATA_FILES}
    metadata = {
        name: model.get_rt_info(key).value if model.has_rt_info(key) else "" for name, key in keys.items()
    }
    settings: dict[str, Any] = {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    # On CPUs with matrix units OpenVINO would compute in bfloat16, unless told otherwise.
    if model.has_rt_info([METADATA, PRECISION]):
        settings["INFERENCE_PRECISION_HINT"] = model.get_rt_info([METADATA, PRECISION]).value
    compiled = core.compile_model(model, "CPU", settings)

    def run(images: Tensor, names: Sequence[str]) -> list[Tensor]:
        found = compiled.create_infer_request().infer({"images": images.numpy()})
        return [torch.from_numpy(found[name]) for name in names]

    return run, metadata


def _open_program(path: Path) -> tuple[Run, dict[str, str]]:
    try:
        check_sums(path)
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: is the file complete and unchanged? ({error})") from error
    files = dict.fromkeys(METADATA_FILES.values(), "")
    module = torch.export.load(path, extra_files=files).module()

    def run(images: Tensor, names: Sequence[str]) -> list[Tensor]:
        with torch.inference_mode():
            outputs = dict(zip(("boxes", "scores"), module(images), strict=True))
        return [outputs[name] for name in names]

    return run, {name: files[file] for name, file in METADATA_FILES.items()}


@dataclass(frozen=True, slots=True)
class Decoded:
    """What scoring needs of `detector.networks.head.Predictions`.

    Attributes:
        logits: (B, A, C) class logits.
        decoded: (B, A, 4) float32 xyxy pixels of the input.
    """

    logits: Tensor
    decoded: Tensor

    def boxes(self) -> Tensor:
        """Boxes of all points: (B, A, 4) float32 xyxy pixels."""
        return self.decoded


class ExportedNetwork(nn.Module):
    """An exported file in the place of a `Detector`'s network, to be scored; it has no losses.

    Args:
        exported: the file.
    """

    def __init__(self, exported: ExportedForward) -> None:
        super().__init__()
        self.exported = exported
        self.in_channels = image_channels(exported.facts.in_channels)

    def forward(self, images: Tensor) -> Decoded:
        """(B, 3, H, W) float images in [0, 1], made of uint8, to predictions in their pixels."""
        logits, boxes = self.exported((images * 255).round().byte().cpu())
        return Decoded(logits.to(images.device), boxes.to(images.device))


OPENERS = {".onnx": _open_onnx, ".xml": _open_openvino, ".pt2": _open_program}
"""How a file is opened, by its ending."""


def image_channels(in_channels: int) -> int:
    """Channels of the images that an exported file takes: a grey network averages RGB images inside."""
    return 3 if in_channels == 1 else in_channels


def is_exported(path: str | Path) -> bool:
    """Whether a file's name is one of export.py's formats that hold a graph."""
    return Path(path).suffix.lower() in OPENERS
