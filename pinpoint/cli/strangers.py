"""Whose classes a checkpoint may name, since to import a module is to run it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import _common, set_parsing_settings

from datamodules.parsing import load_yaml
from pinpoint.cli.arguments import is_dotted
from pinpoint.cli.recipes import read_recipe

OURS = ("datamodules", "detector", "evaluation", "losses", "pinpoint")


@contextmanager
def known_classes(args: Sequence[str]) -> Iterator[None]:
    """Within it, configurations may name classes of ours, of modules that are loaded, and those of `args`.

    jsonargparse imports what stands where a class belongs, and looks only then at what it is. It can be told
    what not to import, but for a whole process, and not that it may again: hence the look at its settings.

    Args:
        args: command line of the user, who may trust other modules; see `pinpoint.cli.arguments.tidy`.
    """
    before = dict(_common.parsing_settings)
    modules = {path.partition(".")[0] for path in _named(args)}
    # `os`, `subprocess` and their like stay refused.
    allowed = {*OURS, *modules, *_loaded()} - before["import_path_verdicts"].keys() - {"jsonargparse"}
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=sorted(allowed))
    try:
        yield
    finally:
        _common.parsing_settings.update(before)


def _loaded() -> Iterator[str]:
    """Packages that are loaded, with all that is in them; of folders without `__init__.py` what is loaded."""
    for name, module in list(sys.modules.items()):
        first = sys.modules.get(name.partition(".")[0])
        if getattr(first, "__file__", None) is None:
            loaded = name if getattr(module, "__file__", None) is not None else None
        else:
            loaded = name if "." not in name else None
        if loaded is not None and all(part.isidentifier() for part in loaded.split(".")):
            yield loaded


def naming(args: Sequence[str]) -> list[str]:
    """Options that name classes of model and data by their modules, to be given again to evaluate."""
    own = ("--model.", "--data=", "--data.class_path=")
    return [word for word in args if word.startswith(own) and any(_named([word]))]


def _named(args: Sequence[str]) -> Iterator[str]:
    """Dotted names that a command line and its recipes give, where they can be those of classes."""
    for word in args:
        key, _, value = word.partition("=")
        try:
            given = read_recipe(Path(value)) if key == "--config" else load_yaml(value)
        except (ValueError, yaml.YAMLError):
            continue
        for text in _texts(given):
            if is_dotted(text) and not Path(text).exists():
                yield text


def _texts(given: Any) -> Iterable[str]:  # noqa: ANN401  # a value of YAML
    if isinstance(given, str):
        yield given
    elif isinstance(given, dict | list):
        for part in given.values() if isinstance(given, dict) else given:
            yield from _texts(part)
