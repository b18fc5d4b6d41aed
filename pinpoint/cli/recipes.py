"""Recipes: where they are, what they are for, and the data section of one for commands that need no model."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from datamodules.parsing import load_yaml

if TYPE_CHECKING:
    from datamodules.base import DetectionDataModule

# The package's own first: site-packages may hold a folder `configs` of somebody else.
_PLACES = (Path(__file__).parents[1] / "recipes", Path(__file__).parents[2] / "configs")
RECIPES = next((folder for folder in _PLACES if (folder / "default.yaml").is_file()), _PLACES[1])
"""Folder of the recipes: `configs/` of a clone, `pinpoint/recipes/` where the package is installed."""

DEFAULTS = RECIPES / "default.yaml"
SECTIONS = ("seed_everything", "data")


class Format(NamedTuple):
    """What a user must know to train on data of a format.

    Attributes:
        recipe: the one to start from.
        options: those that say where the data is.
        what: the format in words.
    """

    recipe: str
    options: str
    what: str


FORMATS = {
    "CocoDataModule": Format(
        "custom",
        "--data.train_images DIR --data.train_annotations FILE\n"
        "      --data.val_images DIR --data.val_annotations FILE",
        "COCO: two image folders, two JSON files",
    ),
    "YoloDataModule": Format("yolo", "--data.yaml FILE", "YOLO: a data.yaml, a text file an image"),
    "VocDataModule": Format("voc", "--data.root DIR", "Pascal VOC: Annotations, JPEGImages, ImageSets/Main"),
    "VisDroneDataModule": Format("visdrone", "--data.root DIR", "VisDrone: downloads itself"),
    "ScenesDataModule": Format("quickstart", "", "no data at hand: generated aerial scenes"),
}
"""By the name of a data module."""


class DataDescriptionError(ValueError):
    """A data.yaml stands where a recipe belongs.

    Attributes:
        options: what to write instead.
    """

    def __init__(self, path: Path) -> None:
        self.options = f"--config {FORMATS['YoloDataModule'].recipe} --data.yaml {path}"
        super().__init__(f"{path} describes a YOLO data set and is no recipe: write {self.options}")


def recipe_table() -> str:
    """Lines that say which recipe is for which format."""
    return "\n".join(
        f"  {one.what}\n    --config {one.recipe} {one.options}".rstrip() for one in FORMATS.values()
    )


def find_recipe(given: str) -> Path:
    """A recipe's file: the path itself, or one of ours by its name, with or without folder and ending.

    Raises:
        ValueError: there is none; says which there are.
    """
    path = Path(given)
    if path.is_file():
        return path
    ours = {recipe.stem: recipe for recipe in sorted(RECIPES.glob("*.yaml"))}
    if path.suffix in ("", ".yaml", ".yml") and str(path.parent) in (".", "configs") and path.stem in ours:
        return ours[path.stem]
    close = get_close_matches(path.stem, ours, 3)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise ValueError(
        f"no recipe at {given}: {hint}ours are {', '.join(ours)}; or give the path of a YAML file"
    )


def read_recipe(path: Path) -> dict[str, Any]:
    """Sections of a recipe; line ends and byte order marks of any editor pass.

    Raises:
        ValueError: the file cannot be read, says at which line, or is no mapping.
    """
    try:
        recipe = load_yaml(path.read_text("utf-8-sig"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as a recipe ({error}): give a YAML file in UTF-8") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        raise ValueError(
            f"{path}{line} cannot be read as a recipe ({getattr(error, 'problem', None) or error}): indent "
            "with spaces, two more for what belongs to the line above, and put a space after each colon"
        ) from error
    if not isinstance(recipe, dict):
        raise ValueError(f"{path} is not a recipe: it must hold sections such as data and model")
    if "names" in recipe and {"train", "val", "path"} & recipe.keys():
        raise DataDescriptionError(path)
    return recipe


def data_module(configs: Sequence[Path], overrides: Sequence[str] = ()) -> DetectionDataModule:
    """Build the data module that train.py would build.

    What recipes and options say of other sections is left aside.

    Args:
        configs: recipes, merged in order on top of configs/default.yaml.
        overrides: command line arguments of train.py that come after them.

    Raises:
        ValueError: a recipe that cannot be read, or an option that does not exist or has a wrong value.
    """
    from datamodules.base import DetectionDataModule
    from pinpoint.cli.arguments import of_sections, tidy
    from pinpoint.cli.parser import Parser

    given = [*(f"--config={config}" for config in configs), *overrides]
    parser = Parser()
    parser.given = tidy(given)
    parser.add_argument("--config", action="config")
    parser.add_argument("--seed_everything", type=int, default=0)
    parser.add_argument("--data", type=DetectionDataModule, required=True)
    parser.link_arguments("seed_everything", "data.init_args.seed")
    arguments = of_sections([f"--config={DEFAULTS}", *parser.given], SECTIONS)
    built = parser.instantiate(parser.parse_args(arguments))
    module: DetectionDataModule = built.data
    return module
