"""Command lines before they are parsed: recipes found, habits answered, shorthands written out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from pinpoint.cli.recipes import FORMATS, DataDescriptionError, find_recipe, read_recipe, recipe_table

FLAGS = ("-h", "--help", "--print_config")
"""Options that take no value from the word after them."""

HABITS = {
    "trainer.max_epochs": ("epochs", "epoch", "max_epochs", "num_epochs"),
    "trainer.max_time": ("time", "max_time"),
    "trainer.devices": ("device", "devices", "gpus", "gpu"),
    "trainer.precision": ("precision", "amp", "half", "fp16"),
    "trainer.logger.init_args.save_dir": (
        "project",
        "save_dir",
        "output_dir",
        "out_dir",
        "work_dir",
        "logdir",
    ),
    "trainer.logger.init_args.name": ("name", "run_name", "exp", "experiment"),
    "data.image_size": ("imgsz", "img", "img_size", "image_size", "size", "input_size", "resolution"),
    "data.batch_size": ("batch", "batch_size", "bs"),
    "data.num_workers": ("workers", "num_workers"),
    "data.fraction": ("fraction",),
    "data.reading.cache": ("cache",),
    "data.root": ("root", "data_dir", "data_root", "dataset_dir"),
    "model.optimizer.lr": ("lr", "lr0", "learning_rate"),
    "model.optimizer.weight_decay": ("weight_decay", "wd"),
    "model.optimizer": ("optimizer", "optim"),
    "model.loss.box": ("loss", "box_loss"),
    "model.network.backbone": ("backbone", "arch", "encoder"),
    "model.network.pretrained": ("pretrained",),
    "model.network.strides": ("strides", "stride"),
    "ckpt_path": ("resume", "ckpt", "checkpoint", "resume_from"),
    "model.init_from": ("weights", "init_from", "load_from", "finetune", "init_weights"),
    "model.freeze": ("freeze",),
    "trainer.accumulate_grad_batches": ("accumulate", "grad_accum", "accumulate_grad_batches"),
    "trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/map --trainer.callbacks.mode=max "
    "--trainer.callbacks.patience": ("patience", "early_stopping"),
    "seed_everything": ("seed",),
    "config": ("cfg", "recipe", "conf"),
}
"""Our option for what other trainers call otherwise."""

GENERIC = ("data", "dataset", "annotations", "ann", "images", "img", "labels", "train", "val", "test")
"""Names of files and folders that say nothing of what is in them; their folder does."""

LABELLED = (
    "--data",
    "--model.postprocess",
    "--trainer.limit_val_batches",
    "--trainer.limit_test_batches",
    "--trainer.precision",
)
"""How options begin that change what is found."""

_NUMBERS = re.compile(r"-?\d+(\.\d+)?(\s*,\s*-?\d+(\.\d+)?)+")
_SIZE = re.compile(r"(\d+)(?:\s*[x,]\s*(\d+))?")


def tidy(args: Sequence[str]) -> list[str]:
    """Write a command line out as the parser wants it.

    A recipe may be given by its name; `--data.image_size 640` and `640x1088` become [640, 640] and
    [640, 1088], `1,2,3` a list.

    Args:
        args: as given.

    Returns:
        One word an option, `--key=value`.

    Raises:
        ValueError: options of other tools or without dashes, a recipe that is not there or cannot be read, a
            data set where the name of a data module belongs.
    """
    tidied, strange = [], []
    for key, value, word in _pairs(args):
        name = key.lstrip("-")
        if ours := _ours(name, value, dashes=key.startswith("-")):
            strange.append(f"{word} -> {ours}")
        elif not key.startswith("-"):
            strange.append(f"{word} -> {_meant(word)}")
        elif value is None:
            tidied.append(key)
        elif name in ("config", "c") and "\n" not in value:
            recipe = find_recipe(value)
            read_recipe(recipe)
            tidied.append(f"--config={recipe.absolute()}")  # parsing a recipe changes the folder
        elif name == "data" and (Path(value).exists() or (Path(value).suffix and not _is_class(value))):
            raise ValueError(_data_given(value))
        elif name == "data.image_size" and (size := _SIZE.fullmatch(value)):
            tidied.append(f"{key}=[{size[1]}, {size[2] or size[1]}]")
        else:
            tidied.append(f"{key}=[{value}]" if _NUMBERS.fullmatch(value) else f"{key}={value}")
    if strange:
        lines = "\n  ".join(strange)
        raise ValueError(
            f"options are --section.name=value; of other names, or without dashes:\n  {lines}\n"
            + ("" if _has_data(tidied) else f"and a recipe for the format of your data:\n{recipe_table()}\n")
            + "all options: --config RECIPE --help"
        )
    return tidied


def of_sections(args: Sequence[str], sections: Sequence[str]) -> list[str]:
    """Those options, and of recipes those parts, that belong to some sections.

    Args:
        args: see `tidy`.
        sections: top-level names such as `data`.
    """
    others = {"trainer", "model", "ckpt_path", "new_version"} - set(sections)
    kept = []
    for word in args:
        key, _, value = word.partition("=")
        if key == "--config":
            recipe = {name: part for name, part in read_recipe(Path(value)).items() if name in sections}
            kept.append(f"--config={yaml.safe_dump(recipe)}")
        elif key.lstrip("-").split(".")[0].rstrip("+") not in others:
            kept.append(word)
    return kept


def chosen_class(args: Sequence[str], section: str) -> str | None:
    """Name of the class that a tidied command line asks for, without its package; None for none.

    Args:
        args: see `tidy`.
        section: where the class belongs, `data` or `model.network`.
    """
    name: Any = None
    for word in args:
        key, _, value = word.partition("=")
        if key == "--config":
            part = _section(value, section)
            name = (part.get("class_path") if isinstance(part, dict) else part) or name
        elif key in (f"--{section}", f"--{section}.class_path"):
            name = value
    return None if name is None else str(name).rpartition(".")[2]


def chosen_options(args: Sequence[str], section: str) -> dict[str, Any]:
    """Options of that class that the recipes give, a later recipe's before an earlier one's."""
    options: dict[str, Any] = {}
    for word in args:
        key, _, value = word.partition("=")
        part = _section(value, section) if key == "--config" else None
        options |= (part.get("init_args") or {}) if isinstance(part, dict) else {}
    return options


def _section(value: str, section: str) -> Any:  # noqa: ANN401  # a name or a mapping
    """What `--config=value` says about a section."""
    part: Any = _recipe(value)
    for key in section.split("."):
        part = part.get(key) if isinstance(part, dict) else None
    return part


def _recipe(value: str) -> dict[str, Any]:
    """What `--config=value` holds: a file, or YAML of several lines."""
    recipe = yaml.safe_load(value) if "\n" in value else read_recipe(Path(value))
    return recipe if isinstance(recipe, dict) else {}


def place_and_name(checkpoint: Path) -> tuple[Path, str]:
    """Folder that a model lies in, and its name for those of results: of a file without the ending.

    Args:
        checkpoint: file, or folder of `export.py --format hub`, whose name may have dots in it.
    """
    path = checkpoint.resolve()
    return path.parent, path.name if path.is_dir() else path.stem


def results_label(args: Sequence[str]) -> list[str]:
    """Words that tell results apart, for the names of folders: one for each option that changes them.

    `--data.yaml=boats/data.yaml` is "boats", `--data.val_annotations=x/night.json` is "night",
    `--data.image_size=[640, 640]` is "image_size-640-640".

    Args:
        args: options beyond those that need no name, see `tidy`.
    """
    words = []
    for word in args:
        key, _, value = word.partition("=")
        if key == "--config" or key.startswith(LABELLED):
            path = Path(value)
            file = path.suffix in (".json", ".yaml", ".yml") or path.exists()
            generic = file and path.stem.lower() in GENERIC and path.resolve().parent.name
            name = path.resolve().parent.name if generic else path.stem if file else value
            name = name if file else f"{key.rpartition('.')[2].lstrip('-')}-{name}"
            words.append(re.sub(r"[^\w.+]+", "-", name).strip("-"))
    return list(dict.fromkeys(words))


def _pairs(args: Sequence[str]) -> Iterator[tuple[str, str | None, str]]:
    """Option, its value, and both as they were given."""
    words = iter([*args, None])
    word = next(words)
    while word is not None:
        key, equals, value = word.partition("=")
        following = next(words)
        takes = key.startswith("-") and not equals and key not in FLAGS
        if takes and following is not None and not following.startswith("--"):
            yield key, following, f"{word} {following}"
            following = next(words)
        else:
            yield key, value if equals else None, word
        word = following


def _ours(name: str, value: str | None, dashes: bool) -> str | None:
    """Our way to say what another tool calls `name`; None if it is no such name."""
    name = name.replace("-", "_")
    for key, names in HABITS.items():
        if name in names and not (dashes and name == key):
            if name in ("device", "gpu") and value and not value.replace(",", "").isdigit():
                return f"--trainer.accelerator={value.partition(':')[0]}"
            value = f"[{value}]" if name in ("device", "gpu") and value else value
            return f"--{key}={'...' if value is None else value}"
    if name == "data" and value and not dashes:
        return f"--config {FORMATS['YoloDataModule'].recipe} --data.yaml={value}"
    return f"--{name}={value}" if not dashes and "." in name else None


def is_dotted(value: str) -> bool:
    """Whether a value may name something of a module."""
    parts = value.split(".")
    return len(parts) > 1 and all(part.isidentifier() for part in parts)


def _is_class(value: str) -> bool:
    """Whether a value may be a class with its module, rather than a file."""
    return is_dotted(value) and value.rpartition(".")[2][0].isupper()


def _has_data(args: Sequence[str]) -> bool:
    return any(word.startswith(("--config", "--data=", "--data.class_path=")) for word in args)


def _data_given(value: str) -> str:
    """What to write instead of --data=FILE or --data=FOLDER."""
    path = Path(value)
    format_ = "CocoDataModule" if path.suffix == ".json" else "YoloDataModule"
    options = {"YoloDataModule": f"--data.yaml {value}"}
    if path.is_dir():
        if (path / "Annotations").is_dir():
            format_, options = "VocDataModule", {"VocDataModule": f"--data.root {value}"}
        elif any(path.glob("VisDrone2019-DET-*")):
            format_, options = "VisDroneDataModule", {"VisDroneDataModule": f"--data.root {value}"}
        else:
            found = next(iter(sorted(path.glob("*.y*ml"))), path / "data.yaml")
            options = {"YoloDataModule": f"--data.yaml {found}"}
    meant = FORMATS[format_]
    return (
        f"--data={value} names a data set where the name of a data module belongs. For {meant.what}: "
        f"--config {meant.recipe} {options.get(format_, meant.options)}. Of other formats:\n{recipe_table()}"
    )


def _meant(word: str) -> str:
    """Where a word without dashes may belong."""
    try:
        recipe = find_recipe(word)
        read_recipe(recipe)
    except DataDescriptionError as error:
        return error.options
    except ValueError:
        return "?"
    return f"--config {word}"
