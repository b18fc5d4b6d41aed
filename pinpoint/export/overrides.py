"""Options of train.py given to export.py: what a file can say otherwise than its checkpoint, and what not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from datamodules.parsing import load_yaml
from pinpoint.cli.detection import DetectionCLI


class _Parsed(DetectionCLI):
    """A command line that is parsed, and nothing built of it."""

    @classmethod
    def of(cls, checkpoint: Mapping[str, Any], overrides: Sequence[str]) -> _Parsed:
        parsed = cls._for_evaluation(checkpoint["config"], checkpoint["class_names"], list(overrides))
        assert isinstance(parsed, cls)
        return parsed

    def instantiate_classes(self) -> None:
        """The data need not be here."""

    def said(self) -> dict[str, Any]:
        """What makes a file, by the names of options."""
        size = self.config.data.init_args.image_size
        model = {f"model.{name}": value for name, value in self.config.model.items()}
        return model | {"data.image_size": [size, size] if isinstance(size, int) else list(size)}


def overridden(checkpoint: dict[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """A checkpoint with the postprocessing that a command line asks for; it stays as it is.

    Args:
        checkpoint: see `detector.checkpoint.load_checkpoint`.
        overrides: options of train.py, see `pinpoint.cli.arguments.tidy`.

    Raises:
        ValueError: an option that does not exist, or one that asks for another model than was trained.
    """
    if not overrides:
        return checkpoint
    parsed = _Parsed.of(checkpoint, overrides)
    trained, wanted = _Parsed.of(checkpoint, []).said(), parsed.said()
    changed = [name for name in trained | wanted if trained.get(name) != wanted.get(name)]
    others = [name for name in changed if not name.startswith("model.postprocess.")]
    if others:
        said = [f"--{_option(name)}={wanted.get(name)}, trained with {trained.get(name)}" for name in others]
        more = f"; and {len(said) - 3} more" if len(said) > 3 else ""
        raise ValueError(
            f"export.py writes the model that was trained, and no other: {'; '.join(said[:3])}{more}. Leave "
            "this out, of recipes too; --model.postprocess and where the data is may be another"
        )
    if not changed:
        return checkpoint
    config = load_yaml(checkpoint["config"])
    config["model"]["postprocess"] = parsed.config.model.postprocess.as_dict()
    return {**checkpoint, "config": yaml.safe_dump(config, sort_keys=False)}


def _option(name: str) -> str:
    return name.replace(".init_args", "").removesuffix(".class_path")
