"""The traced network as an ONNX file, in float32, half precision or int8, with or without suppression."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from detector.exported import METADATA_PREFIX, need
from detector.postprocess import Postprocess
from pinpoint.export.graph import INPUT, OUTPUTS

OPSET = 18
"""Operator set: of 2022; onnxruntime reads it from 1.14, OpenVINO from 2023.1, TensorRT from 8.6 on."""

Model = Any
"""An `onnx.ModelProto`; onnx is an optional package."""


def to_onnx(program: ExportedProgram, calibration: Iterable[Tensor] | None = None) -> Model:
    """Translate a program of `graph.trace`; its free sizes are called batch, height, width and points.

    Args:
        program: the program.
        calibration: images (B, 3, H, W) uint8 that set the ranges of int8; None for the program's precision.
    """
    need("onnx", "onnx")
    need("onnxscript", "onnx")
    with _quiet():
        exported = torch.onnx.export(
            program,
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            verbose=False,
        )
    assert exported is not None
    model = exported.model_proto
    sizes = {INPUT: ("batch", None, "height", "width")} | dict.fromkeys(OUTPUTS, ("batch", "points", None))
    for value in (*model.graph.input, *model.graph.output):
        for size, name in zip(value.type.tensor_type.shape.dim, sizes[value.name], strict=True):
            if name is not None:
                size.dim_param = name
    # The sizes between are formulas of the input's, which readers work out for themselves.
    del model.graph.value_info[:]
    return model if calibration is None else _quantise(model, calibration)


def _quantise(model: Model, images: Iterable[Tensor]) -> Model:
    """Convolutions in int8 by onnxruntime's static quantiser; scores and boxes are decoded in float32."""
    quantization = need("onnxruntime.quantization", "onnx")
    batches = iter(images)

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def get_next(self) -> dict[str, Any] | None:
            batch = next(batches, None)
            return None if batch is None else {INPUT: batch.contiguous().numpy()}

    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "int8.onnx"
        quantization.quantize_static(
            model,
            path,
            Reader(),
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=quantization.QuantType.QUInt8,
        )
        return need("onnx", "onnx").load(path)


def add_suppression(model: Model, postprocess: Postprocess) -> None:
    """Add the output `detections` (N, 7) float32 of all images: image, x1, y1, x2, y2, score, class.

    Rows come image by image, class by class, best score first. The most detections are those of a class in
    an image, for ONNX's operator knows no other limit; there is none on candidates.

    Args:
        model: with the outputs boxes (B, A, 4) and scores (B, A, C); is changed.
        postprocess: threshold, IoU and limit.

    Raises:
        ValueError: a suppression that ONNX's operator does not know.
    """
    if postprocess.suppression != "nms" or postprocess.class_agnostic:
        raise ValueError(
            "--nms knows suppression class by class alone, but the checkpoint has another model.postprocess: "
            "export without --nms, or with --model.postprocess.suppression=nms "
            "--model.postprocess.class_agnostic=false"
        )
    helper, tensor_types = need("onnx", "onnx").helper, need("onnx", "onnx").TensorProto
    from_array = need("onnx", "onnx").numpy_helper.from_array
    constants = {
        "nms_most": np.array([postprocess.max_detections], np.int64),
        "nms_iou": np.array([postprocess.nms_iou], np.float32),
        "nms_score": np.array([postprocess.score_threshold], np.float32),
        "nms_image_and_point": np.array([0, 2], np.int64),
        "nms_last": np.array([1], np.int64),
    }
    model.graph.initializer.extend(from_array(value, name) for name, value in constants.items())
    limits = ["nms_most", "nms_iou", "nms_score"]
    columns = ["nms_image", "nms_class", "nms_point"]
    steps: list[tuple[str, list[str], list[str], dict[str, Any]]] = [
        ("Transpose", ["scores"], ["nms_by_class"], {"perm": [0, 2, 1]}),
        ("NonMaxSuppression", ["boxes", "nms_by_class", *limits], ["nms_chosen"], {}),
        ("Gather", ["nms_chosen", "nms_image_and_point"], ["nms_places"], {"axis": 1}),
        ("GatherND", ["boxes", "nms_places"], ["nms_boxes"], {}),
        ("GatherND", ["nms_by_class", "nms_chosen"], ["nms_flat_scores"], {}),
        ("Unsqueeze", ["nms_flat_scores", "nms_last"], ["nms_scores"], {}),
        ("Cast", ["nms_chosen"], ["nms_numbers"], {"to": tensor_types.FLOAT}),
        ("Split", ["nms_numbers"], columns, {"axis": 1, "num_outputs": 3}),
        ("Concat", ["nms_image", "nms_boxes", "nms_scores", "nms_class"], ["detections"], {"axis": 1}),
    ]
    model.graph.node.extend(
        helper.make_node(kind, inputs, outputs, **options) for kind, inputs, outputs, options in steps
    )
    shape = ["detections", 7]
    model.graph.output.append(helper.make_tensor_value_info("detections", tensor_types.FLOAT, shape))


def save_onnx(model: Model, path: Path, metadata: Mapping[str, str]) -> None:
    """Write a model; `path` ends in .onnx, the metadata's names get our prefix."""
    onnx = need("onnx", "onnx")
    onnx.helper.set_model_props(model, {METADATA_PREFIX + name: text for name, text in metadata.items()})
    onnx.checker.check_model(model)
    onnx.save(model, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the libraries tell of themselves: names that torch has deprecated, advice that we follow.

    The quantiser asks for a preprocessing that folds batch norms, which the exporter has done.
    """
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
