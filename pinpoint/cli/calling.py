"""Command lines of ours, as the user of this process writes them."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path


def command(checkpoint: str, argv: Sequence[str] | None = None) -> str:
    """The command line of this process, going on from a checkpoint.

    Args:
        checkpoint: its file.
        argv: the process's arguments, the program first; those of this process if not given.
    """
    program, *words = sys.argv if argv is None else argv
    kept = [
        word
        for before, word in zip(["", *words], words, strict=False)
        if not {word.partition("=")[0], before} & {"--ckpt_path", "--new_version"}
    ]
    path = Path(program)
    if path.name == "__main__.py":
        start = ["python", "-m", path.parent.name]
    else:
        start = ["python", program] if path.suffix == ".py" else [path.name]
    return shlex.join([*start, *kept, f"--ckpt_path={checkpoint}"])


def called(name: str, program: str | None = None) -> list[str]:
    """The words by which the user of this process calls another command of ours.

    Args:
        name: of the command, such as evaluate.
        program: the process's program; that of this process if not given.
    """
    path = Path(sys.argv[0] if program is None else program)
    script = path.with_name(f"{name}.py")
    if path.suffix == ".py" and script.is_file():
        return ["python", str(script)]
    return ["pinpoint", name] if path.stem == "pinpoint" else ["python", "-m", "pinpoint", name]
