"""What export.py does: writes a draft, lets it pass the gate, puts it in its place."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from detector.checkpoint import build, load_checkpoint
from detector.exported import ExportedForward, is_exported
from detector.facts import ModelFacts
from detector.inference import Model, load
from detector.networks.base import DetectionNetwork
from detector.postprocess import Postprocess
from detector.sealed import seal
from pinpoint.cli.arguments import place_and_name
from pinpoint.cli.detection import DetectionCLI
from pinpoint.export.gate import Comparison, ValidationImages, compare
from pinpoint.export.graph import save_program, trace
from pinpoint.export.onnx_file import add_suppression, save_onnx, to_onnx
from pinpoint.export.openvino_file import save_openvino, to_openvino
from pinpoint.export.overrides import overridden
from pinpoint.export.share import write_hub, write_model_card, write_weights

Format = Literal["onnx", "openvino", "pt2", "weights", "hub"]
ENDINGS: dict[Format, str] = {
    "onnx": ".onnx",
    "openvino": ".xml",
    "pt2": ".pt2",
    "weights": "_weights.ckpt",
    "hub": "_hub",
}
"""What follows the checkpoint's name in that of the result."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What to export.

    Attributes:
        format: kind of file.
        checkpoint: of train.py, or a shared model.
        output: file or folder to write; None for one beside the checkpoint, called like it.
        half: half precision.
        int8: 8-bit integers, calibrated on validation images.
        nms: non-maximum suppression inside, as one more output.
        images: most validation images that calibrate, check and score the result, drawn evenly.
        checked: whether the result has to pass the gate; otherwise no data is needed.
        licence: of the weights, for the model card, by the hub's name for it.

    Raises:
        ValueError: for what a format cannot be.
    """

    format: Format
    checkpoint: str
    output: Path | None = None
    half: bool = False
    int8: bool = False
    nms: bool = False
    images: int = 500
    checked: bool = True
    licence: str = "other"

    def __post_init__(self) -> None:
        if self.half and self.int8:
            raise ValueError("--half and --int8 exclude each other: choose one")
        if (self.int8 or self.nms) and self.format not in ("onnx", "openvino"):
            raise ValueError(f"--int8 and --nms are for onnx and openvino, not for {self.format}")
        if self.images < 1:
            raise ValueError(f"--images must be at least 1, got {self.images}")
        ending = ENDINGS[self.format]
        if self.output is not None and ending.startswith(".") and self.output.suffix != ending:
            raise ValueError(f"--output must end in {ending} for {self.format}, got {self.output}")
        if self.output is not None and not ending.startswith(".") and is_exported(self.output):
            raise ValueError(
                f"--output {self.output} would be taken for another format by its ending: give another name "
                f"for {self.format}"
            )

    @property
    def exact(self) -> bool:
        """Whether the result has to agree with the checkpoint, as float32 does."""
        return not (self.half or self.int8)

    @property
    def path(self) -> Path:
        """Where the result goes.

        Raises:
            ValueError: the model is of the hub, and no place was given.
        """
        if self.output is not None:
            return self.output
        checkpoint = Path(self.checkpoint)
        if not checkpoint.exists():
            raise ValueError("give --output: there is no folder of the checkpoint to write to")
        precision = "_half" if self.half else "_int8" if self.int8 else ""
        folder, name = place_and_name(checkpoint)
        return folder / f"{name}{precision}{ENDINGS[self.format]}"

    def require_place(self) -> None:
        """Refuse a place where the result would put an end to what is no earlier one.

        Raises:
            ValueError: something is there.
        """
        path = self.path
        # By its name a file may be an earlier result; a folder may hold what its owner changed since.
        lost = [path] if path.is_dir() or not path.name.endswith(ENDINGS[self.format]) else []
        if self.format == "openvino" and not path.exists():  # its weights are then another model's
            lost.append(path.with_suffix(".bin"))
        if taken := next((one for one in lost if one.exists()), None):
            raise ValueError(
                f"{taken} is there already and would be lost: remove it, or give another --output"
            )
        if path.exists() and path.resolve() == Path(self.checkpoint).resolve():
            raise ValueError(f"--output is the checkpoint itself, {path}: give another")


def export(wish: Wish, overrides: Sequence[str] = ()) -> list[str]:
    """Write, check, and put in place; prints what the result costs and gains.

    Args:
        wish: what to write.
        overrides: options of train.py that come after the checkpoint's, such as where the images are; see
            `pinpoint.export.overrides`.

    Returns:
        Why the gate refused the result, of which then nothing is left; empty if it passed.

    Raises:
        ValueError: something that a user can mend.
    """
    wish.require_place()
    path, checkpoint = wish.path, overridden(load_checkpoint(wish.checkpoint), overrides)
    network, facts = build(checkpoint)
    images = None
    if wish.checked or wish.int8:
        cli = DetectionCLI.from_checkpoint(checkpoint, ["--trainer.accelerator=cpu", *overrides])
        images = ValidationImages(cli.datamodule, wish.images)
    with _drafts(path.parent) as folder:
        draft = folder / path.name
        if wish.format == "hub":
            write_hub(checkpoint, draft, wish.half, wish.licence)
        elif wish.format == "weights":
            write_weights(checkpoint, draft, wish.half)
        else:
            metadata = {"facts": facts.to_json(), "config": checkpoint["config"]}
            _write_graph(wish, network, facts, images, draft, metadata)
        if wish.checked:
            assert images is not None
            compared = _check(wish, facts, images, draft)
            print(compared.table(wish.format))
            failures = compared.failures(wish.exact)
            if failures:
                return failures
            if wish.format == "hub":
                write_model_card(draft, wish.licence, compared)
        _publish(folder, path)
    return []


def _write_graph(
    wish: Wish,
    network: DetectionNetwork,
    facts: ModelFacts,
    images: ValidationImages | None,
    draft: Path,
    metadata: dict[str, str],
) -> None:
    """Write an ONNX, OpenVINO or torch.export file."""
    # OpenVINO stores half precision, and computes in what the device prefers.
    program = trace(network, half=wish.half and wish.format != "openvino")
    if wish.format == "pt2":
        save_program(program, draft, metadata)
        return
    calibration = images.few() if wish.int8 and images is not None else None
    model = to_onnx(program, calibration if wish.format == "onnx" else None)
    if wish.nms:
        add_suppression(model, Postprocess(**facts.postprocess))
    if wish.format == "onnx":
        save_onnx(model, draft, metadata)
    else:
        read = to_openvino(model, calibration)
        save_openvino(read, draft, metadata, half=wish.half, exact=wish.exact)
    seal(draft)


def _check(wish: Wish, facts: ModelFacts, images: ValidationImages, draft: Path) -> Comparison:
    """Run the result beside the checkpoint, both as a user would load them, with the facts of the result."""
    reference, candidate = Model(load(wish.checkpoint, "cpu").forward, facts), load(draft, "cpu")
    suppressed = None
    if wish.nms:
        assert isinstance(candidate.forward, ExportedForward)
        suppressed = candidate.forward.suppressed
    return compare(reference, candidate, images, suppressed)


@contextmanager
def _drafts(parent: Path) -> Iterator[Path]:
    """A folder on the same disk as the result, which goes with all that is left in it."""
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".export_", dir=parent) as folder:
        yield Path(folder)


def _publish(folder: Path, path: Path) -> None:
    """Move the files into their place, the one by which the others are found last."""
    for written in sorted(folder.iterdir(), key=lambda one: one.name == path.name):
        os.replace(written, path.parent / written.name)
