"""The ONNX graph as OpenVINO's pair of files."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from detector.exported import METADATA, PRECISION, need
from pinpoint.export.onnx_file import Model, save_onnx

DECODING = ["MatMul", "Multiply", "Add", "Subtract", "Divide"]
"""Operations that stay in float32: coordinates have more values than int8, and products with sigmoids
(SiLU) gain nothing."""


def to_openvino(model: Model, calibration: Iterable[Tensor] | None = None) -> Any:  # noqa: ANN401  # optional
    """Read an ONNX model, and quantise it by NNCF if there is something to calibrate on.

    Args:
        model: see `onnx_file.to_onnx`.
        calibration: images (B, 3, H, W) uint8 that set the ranges of int8; None to keep the precision.
    """
    openvino = need("openvino", "openvino")
    nncf = need("nncf", "openvino") if calibration is not None else None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        save_onnx(model, path, {})
        read = openvino.Core().read_model(path)
    if calibration is None or nncf is None:
        return read
    nncf.set_log_level(logging.ERROR)
    images = [batch.contiguous().numpy() for batch in calibration]
    ignored = nncf.IgnoredScope(types=DECODING, validate=False)
    return nncf.quantize(read, nncf.Dataset(images), subset_size=len(images), ignored_scope=ignored)


def save_openvino(
    model: Any,  # noqa: ANN401  # openvino is optional
    path: Path,
    metadata: dict[str, str],
    half: bool,
    exact: bool,
) -> None:
    """Write the pair of files.

    Args:
        model: see `to_openvino`.
        path: ends in .xml; the weights go beside it, to the same name with .bin.
        metadata: for the model's runtime information.
        half: store weights in half precision.
        exact: have `detector.exported` ask the device for float32; otherwise it chooses.
    """
    precision = {PRECISION: "f32"} if exact else {}
    for name, text in (metadata | precision).items():
        model.set_rt_info(text, [METADATA, name])
    need("openvino", "openvino").save_model(model, path, compress_to_fp16=half)
