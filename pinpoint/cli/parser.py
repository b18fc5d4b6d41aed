"""The parser of all commands that read recipes: short messages that say what was meant, help by sections."""

from __future__ import annotations

import importlib
import re
from argparse import SUPPRESS
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger

# Imported so that `class_path: NAME` finds their classes by their short names.
import datamodules.modules  # noqa: F401
import detector.networks.network
import detector.networks.yolov9.network
import detector.training.checkpoints
import detector.training.ema
import detector.training.nonfinite
import detector.training.pictures
import detector.training.progress  # noqa: F401
from datamodules.base import DetectionDataModule
from detector.networks.base import DetectionNetwork
from losses.classification import ClassificationLoss
from losses.regression import BoxLoss
from pinpoint.cli.arguments import chosen_class, chosen_options, is_dotted
from pinpoint.cli.recipes import DEFAULTS, FORMATS, recipe_table
from pinpoint.cli.wrong_values import explain_value, kinds_in

_KEY = re.compile(r'Parser key "([^"]+)"')
_VALUE = re.compile(r"(?:Given value|Got value): (.*)")
_CLASSES = (Callback, Logger, torch.optim.Optimizer, DetectionDataModule, DetectionNetwork)
"""Kinds of classes that recipes name."""

_CHOSEN: dict[str, tuple[type, set[str]]] = {
    "data": (DetectionDataModule, {"seed"}),
    "model.network": (DetectionNetwork, {"num_classes", "image_size"}),
    "model.loss.box": (BoxLoss, set()),
    "model.loss.classification": (ClassificationLoss, set()),
}
"""Sections with a class of the recipe's choice, and its arguments that come from elsewhere."""


class Parser(LightningArgumentParser):
    """Reports a wrong option in one message that says what was meant.

    Attributes:
        given: the command line, see `pinpoint.cli.arguments.tidy`; messages speak of its data.
    """

    given: Sequence[str] = ()

    def add_lightning_class_args(
        self,
        lightning_class: Any,  # noqa: ANN401  # Lightning's union of callables
        nested_key: str,
        subclass_mode: bool = False,
        required: bool = True,
    ) -> list[str]:
        """Add `data` as an argument that must be there.

        Lightning's own way lets it be None, and every mistake in it then ends in two pages about that.
        """
        if lightning_class is LightningDataModule:
            self.add_argument(f"--{nested_key}", type=lightning_class, required=True)
            return [nested_key]
        return super().add_lightning_class_args(lightning_class, nested_key, subclass_mode, required)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise ValueError with a message of ours.

        Parsers of jsonargparse's own making, for parts of a command line, hand theirs up to the outer one.
        """
        if not self.exit_on_error:
            super().error(message, ex)
        raise ValueError(self._explain(message)) from ex

    def format_help(self, *args: Any, **kwargs: Any) -> str:
        """Help: the options of the recipe's data module with the recipe's values, then all others.

        The trainer's come last, as there are most of them.
        """
        self._action_groups = sorted(self._action_groups, key=lambda group: "trainer" in _dests(group))
        others = str(super().format_help(*args, **kwargs))
        return "\n\n".join([*filter(None, map(self._section_help, _CHOSEN)), others]).lstrip()

    def _section_help(self, section: str) -> str:
        """The options of the class that is chosen for a section; empty for none."""
        chosen = _chosen_class(self.given, section)
        if chosen is None:
            return ""
        options = LightningArgumentParser(add_help=False, usage=SUPPRESS, description="")
        options.add_class_arguments(chosen, section, skip=_CHOSEN[section][1])
        own = {
            f"{section}.{key}": value
            for key, value in _leaves(chosen_options(_with_defaults(self.given), section))
        }
        options.set_defaults(
            {key: value for key, value in own.items() if f"--{key}" in options._option_string_actions}
        )
        return str(options.format_help()).strip()

    def _explain(self, message: str) -> str:
        """A message of jsonargparse in words of what the user typed."""
        keys = [key.removeprefix("init_args.") for key in _KEY.findall(message)]
        if "config" in keys:
            keys.remove("config")
            given = [w.removeprefix("--config=") for w in self.given if w.startswith("--config=")]
            recipes = ", ".join("the checkpoint's configuration" if "\n" in one else one for one in given)
            rest = message.replace('Parser key "config"', "")
            return f"{recipes}: {self._explain(rest).removeprefix(': ')}"
        key = ".".join(dict.fromkeys(keys))
        if "arguments are required: data" in message:
            return f"no data: give a recipe for the format of your data\n{recipe_table()}"
        if unknown := re.search(r"unrecognized arguments: (.*)", message, re.DOTALL):
            words = [word for word in unknown[1].split() if word.startswith("-")] or [unknown[1]]
            options = [word.split("=")[0].lstrip("-") for word in words]
            return "\n".join(self._unknown(f"--{'.'.join([*keys, option])}") for option in options)
        if unknown := re.search(r"Option '([^']+)' is not accepted", message):
            return self._unknown(f"--{key}.{unknown[1].removeprefix('init_args.')}")
        if unknown := re.search(r"Group '([^']+)' does not accept option '([^']+)'", message):
            return self._unknown(f"--{unknown[1]}.{unknown[2]}")
        if strange := re.search(r"Importing '([^']+)' is not allowed, denied by the '\*' entry", message):
            return (
                f"{strange[1]} is no class of Pinpoint's, and to import it would run its file: if you trust "
                f"it, name it yourself with --{key}={strange[1]}"
            )
        value = _VALUE.search(message)
        if "NestedArg(" in message:
            such = f", such as --{key}=HybridLoss --{key}.gamma=2" if key == "model.loss.box" else ""
            return f"--{key} is given a short name and options: options belong to a class, by its name{such}"
        names = [
            name
            for found in re.findall(r"typing\.Literal\[([^\]]*)\]", message)
            for name in found.split(", ")
        ]
        if names and value and (problem := self._own_class(value[1])):
            return f"--{key}={value[1]}: {problem}"
        if names and value:
            names = list(dict.fromkeys(name.strip("'") for name in names))
            others = "".join(f"give {kind}, or " for kind in kinds_in(message))
            return f"--{key}={value[1]}: {_meant(value[1], names)}{others}choose among {', '.join(names)}"
        if (wrong := explain_value(key, message)) is not None:
            return wrong
        if missing := re.search(r"Expected a dot import path string: (\S+)", message):
            kinds = {kind.__name__ for base in _CLASSES for kind in _subclasses(base)}
            return (
                f"--{key}={missing[1]}: no such class; {_meant(missing[1], kinds) or 'give its name or path'}"
            )
        return re.sub(r"\n\s*\n", "\n", message)

    def _own_class(self, path: str) -> str | None:
        """Why a class of the user's own, named on the command line, is none; None if it is no such name."""
        module, _, name = path.rpartition(".")
        typed = any(word.endswith(f"={path}") for word in self.given)
        if not typed or not is_dotted(path):
            return None
        try:
            found = importlib.import_module(module)
        except Exception as error:
            return f"{module} cannot be imported ({type(error).__name__}: {error})"
        classes = [one for one, kind in vars(found).items() if isinstance(kind, type)]
        if name not in vars(found):
            return f"{module} has no {name}; {_meant(name, classes) or 'it needs a class of that name'}"
        return None

    def _unknown(self, option: str) -> str:
        """What to say of an option that does not exist."""
        name = option.lstrip("-").rstrip("+")
        data = chosen_class(self.given, "data")
        chosen = _chosen_class(self.given, "data")
        if name.startswith("data.") and chosen is None:
            return f"{option} needs a recipe that names the format of your data:\n{recipe_table()}"
        known = [known.lstrip("-") for known in self._option_string_actions if known.startswith("--")]
        for section in _CHOSEN:
            if (kind := _chosen_class(self.given, section)) is not None:
                known += _options(kind, section)
        if chosen is not None:
            leaf = name.split(".")[1] if "." in name else ""
            others = [
                f"{FORMATS[kind.__name__].what}: --config {FORMATS[kind.__name__].recipe}"
                for kind in _subclasses(DetectionDataModule)
                if kind.__name__ in FORMATS and kind is not chosen and f"data.{leaf}" in _own_options(kind)
            ]
            if name.startswith("data.") and others and f"data.{leaf}" not in known:
                mine = FORMATS[data].what if data in FORMATS else data
                return f"{option} is of another format; the recipe reads {mine}\n  " + "\n  ".join(others)
        close = get_close_matches(name, known, 3, 0.88)
        leaves: dict[str, list[str]] = {}
        for one in known:
            leaves.setdefault(one.rpartition(".")[2], []).append(one)
        for leaf in get_close_matches(name.rpartition(".")[2], leaves, 2, 0.8):
            close += leaves[leaf]
        close = list(dict.fromkeys(close))
        meant = f"did you mean {' or '.join(f'--{one}' for one in close[:3])}?" if close else "see --help"
        section = name.rpartition(".")[0]
        beside = [
            one.rpartition(".")[2].rstrip("+")
            for one in known
            if section and one.rpartition(".")[0] == section and not one.endswith(".help")
        ]
        if beside and not close:
            meant = f"those of --{section} are {', '.join(dict.fromkeys(beside))}"
        return f"there is no option {option}; {meant}"


def _meant(given: str, names: Iterable[str]) -> str:
    close = get_close_matches(given, names, 3, 0.5)
    return f"did you mean {' or '.join(close)}? " if close else ""


def _subclasses(base: type) -> Iterable[type]:
    kind: type
    for kind in base.__subclasses__():
        yield kind
        yield from _subclasses(kind)


def _with_defaults(args: Sequence[str]) -> list[str]:
    return [f"--config={DEFAULTS}", *args]


def _chosen_class(args: Sequence[str], section: str) -> type | None:
    """The class that a command line asks for in a section, None for none of ours."""
    name = chosen_class(_with_defaults(args), section)
    return next((kind for kind in _subclasses(_CHOSEN[section][0]) if kind.__name__ == name), None)


def network_options(args: Sequence[str]) -> set[str]:
    """Options of the network that a tidied command line asks for: `model.network.strides` and so on."""
    chosen = _chosen_class(args, "model.network")
    return set(_options(chosen, "model.network")) if chosen else set()


def _options(kind: type, section: str) -> list[str]:
    """Names of all options of a class, `data.augment.flip` and so on."""
    parser = LightningArgumentParser(add_help=False)
    parser.add_class_arguments(kind, section, skip=_CHOSEN[section][1])
    return [name.lstrip("-") for name in parser._option_string_actions]


def _own_options(kind: type) -> set[str]:
    """Options that a data module has and not all have."""
    return set(_options(kind, "data")) - set(_options(DetectionDataModule, "data"))


def _leaves(options: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in options.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _dests(group: Any) -> set[str]:  # noqa: ANN401  # argparse's private class
    return {action.dest.split(".")[0] for action in group._group_actions}
