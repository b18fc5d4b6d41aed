"""What jsonargparse says of a value of the wrong kind, in words of what the user typed."""

from __future__ import annotations

import re

KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "a text",
    **dict.fromkeys(("list", "tuple", "Sequence", "Iterable"), "a list in brackets"),
    **dict.fromkeys(("dict", "Mapping"), "options of its own"),
}
"""Kinds of values by the name of Python's type."""

_KIND = re.compile(r"Expected a <class '(?:[\w.]+\.)?(\w+)'>")
_LENGTH = re.compile(r"Expected a tuple with (\d+) elements")
_VALUE = re.compile(r"(?:Given value|Got value): (.*)")
_CLASS = re.compile(r"Problem with given class_path '(?:[\w.]+\.)?(\w+)':\s*(?!Parser key)(\S.*)")
_OPTIONS = re.compile(r"""Unable to load config ["'](.*?)["']""")


def explain_value(key: str, message: str) -> str | None:
    """A sentence on a wrong value; None if the message is about something else.

    Args:
        key: the option, without dashes.
        message: of jsonargparse.
    """
    key = {"data.seed": "seed_everything"}.get(key, key)
    if problem := _CLASS.search(message):
        name, what = problem.groups()
        if missing := re.match(r"the following arguments are required: (.*)", what):
            return f"--{key}={name}: it needs --{key}.{missing[1]}"
        return f"{name}: {what}"
    if given := _OPTIONS.search(message):
        return f"--{key}={given[1]}: it has options, given one by one, such as --{key}.NAME=VALUE"
    kinds = kinds_in(message)
    value = _VALUE.search(message)
    of_a_class = "Expected a dot import path" in message and not {KINDS["int"], KINDS["float"]} & set(kinds)
    if not kinds or value is None or of_a_class:
        return None
    typed = re.split(r"\. Got value", value[1])[0]
    return f"--{key}={typed}: it must be {' or '.join(kinds)}"


def kinds_in(message: str) -> list[str]:
    """The kinds of values that a message of jsonargparse says it expects, in our words, each once."""
    kinds = [KINDS[kind] for kind in _KIND.findall(message) if kind in KINDS]
    kinds += [f"a list of {length} in brackets" for length in _LENGTH.findall(message)]
    return list(dict.fromkeys(kinds))
