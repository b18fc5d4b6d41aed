"""YAML that a stranger may have written: of a bounded size, depth and number of references."""

from __future__ import annotations

import re
from contextlib import suppress
from itertools import accumulate
from typing import Any

import yaml

LONGEST, DEEPEST, REFERENCES = 2**20, 40, 16
"""Bytes, levels and references of a text. With more references a small text can stand for a huge one, with
more levels the parser takes minutes or fails."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def load_yaml(text: str | bytes) -> Any:  # noqa: ANN401  # whatever it holds
    """What a YAML text says, as Python's own types.

    Raises:
        ValueError: it is longer, deeper or of more references than any honest file, or a value looks like a
            date and is none.
        yaml.YAMLError: it is no YAML.
    """
    if len(text) > LONGEST:
        raise ValueError(f"longer than {LONGEST // 2**20} MiB")
    brackets = re.findall(r"[][{}]", text if isinstance(text, str) else text.decode("latin-1"))
    if max(accumulate(1 if bracket in "[{" else -1 for bracket in brackets), default=0) > DEEPEST:
        raise ValueError(f"more than {DEEPEST} levels")
    depth = references = 0
    with suppress(yaml.YAMLError):  # which `safe_load` says better
        for event in yaml.parse(text, Loader=_LOADER):
            opens = isinstance(event, yaml.SequenceStartEvent | yaml.MappingStartEvent)
            depth += opens - isinstance(event, yaml.SequenceEndEvent | yaml.MappingEndEvent)
            references += isinstance(event, yaml.AliasEvent)
            if depth > DEEPEST:
                raise ValueError(f"more than {DEEPEST} levels")
            if references > REFERENCES:
                raise ValueError(f"more than {REFERENCES} references")
    return yaml.safe_load(text)
