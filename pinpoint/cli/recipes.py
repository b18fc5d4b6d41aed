"""The data section of a recipe, for commands that look at data and need no model."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentError, ArgumentParser

# Imported so that `class_path: NAME` finds these classes by their short names.
import datamodules.modules  # noqa: F401
from datamodules.base import DetectionDataModule

DEFAULTS = Path(__file__).parents[2] / "configs" / "default.yaml"
SECTIONS = ("seed_everything", "data")


def data_module(configs: Sequence[Path], overrides: Sequence[str] = ()) -> DetectionDataModule:
    """Build the data module that train.py would build; other sections of the recipes are left aside.

    Args:
        configs: recipes, merged in order on top of configs/default.yaml.
        overrides: command line arguments that come after them: `--data...` and `--seed_everything`.

    Raises:
        ValueError: a recipe that cannot be read, or an option that does not exist or has a wrong value.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--config", action="config")
    parser.add_argument("--seed_everything", type=int, default=0)
    parser.add_argument("--data", type=DetectionDataModule, required=True)
    parser.link_arguments("seed_everything", "data.init_args.seed")
    recipes = [f"--config={yaml.safe_dump(_sections(path))}" for path in (DEFAULTS, *configs)]
    try:
        built = parser.instantiate(parser.parse_args([*recipes, *overrides]))
    except ArgumentError as error:
        given = ", ".join(map(str, configs)) or "no --config"
        raise ValueError(f"{given}: {error}") from error
    module: DetectionDataModule = built.data
    return module


def _sections(path: Path) -> dict[str, Any]:
    """What a recipe says about data."""
    try:
        recipe = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} cannot be read as a recipe ({error}): give a YAML file") from error
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} is not a recipe: it must hold sections such as data and model")
    return {name: recipe[name] for name in SECTIONS if name in recipe}
