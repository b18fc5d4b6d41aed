"""Reads models that were shared as a folder: a local one, or one of the Hugging Face hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import snapshot_download
from safetensors import SafetensorError
from safetensors.torch import load_file

from detector.weights import HUB_CONFIG, HUB_WEIGHTS

PREFIX, LIBRARY = "hf://", "pinpoint"


def is_shared(path: str) -> bool:
    """Whether this names a shared model: hf://ORGANISATION/NAME, or a folder with its weights."""
    return path.startswith(PREFIX) or (Path(path) / HUB_WEIGHTS).is_file()


def load_shared(path: str) -> dict[str, Any]:
    """Read a shared model as the checkpoint that it was made from; its parts may yet be anything.

    Args:
        path: hf://ORGANISATION/NAME or hf://ORGANISATION/NAME@REVISION, fetched once and kept in the hub's
            cache; or a folder that `export.py --format hub` wrote.

    Returns:
        A checkpoint, on the CPU, without the state of its training.

    Raises:
        ValueError: it cannot be had, or is not a model of ours.
    """
    folder = local_folder(path)
    try:
        described = json.loads((folder / HUB_CONFIG).read_text("utf-8"))
        weights = load_file(folder / HUB_WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise ValueError(f"{path} is not a model of export.py --format hub: {error}") from error
    maker = described.get("library_name") if isinstance(described, dict) else None
    if maker != LIBRARY:
        raise ValueError(f"{path} was made by {maker or 'something else'}, not by Pinpoint")
    return {**described, "config": yaml.safe_dump(described.get("config")), "state_dict": weights}


def local_folder(path: str) -> Path:
    """The path itself, or where the files of hf://ORGANISATION/NAME are now.

    Raises:
        ValueError: they cannot be fetched.
    """
    return _fetch(path.removeprefix(PREFIX)) if path.startswith(PREFIX) else Path(path)


def _fetch(name: str) -> Path:
    repository, _, revision = name.partition("@")
    try:
        return Path(
            snapshot_download(repository, revision=revision or None, allow_patterns=[HUB_WEIGHTS, HUB_CONFIG])
        )
    except Exception as error:  # of many kinds: no network, no such name, no right to read it
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"hf://{name} cannot be fetched, nor is it in the cache: connect to the internet, check the "
            f"name, or give the path of a folder ({type(error).__name__}: {reason})"
        ) from error
