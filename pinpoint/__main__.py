"""The installed command: `pinpoint train ...`, or `python -m pinpoint train ...`."""

import os
import sys
from difflib import get_close_matches
from importlib import import_module

from pinpoint.cli.errors import user_errors

COMMANDS = {
    "train": ("pinpoint.cli.train", "train a detector"),
    "evaluate": ("pinpoint.cli.evaluate", "score a checkpoint"),
    "predict": ("pinpoint.predict.__main__", "detect objects in images"),
    "export": ("pinpoint.export.__main__", "write a network for other runtimes"),
    "compare": ("pinpoint.comparison.__main__", "train variants and compare them"),
    "doctor": ("pinpoint.doctor.__main__", "examine a data set"),
}
"""By name: the module whose `main(args)` runs the command and may return an exit code; what it does."""

USAGE = "usage: pinpoint COMMAND [options]      pinpoint COMMAND --help tells more\n\n" + "\n".join(
    f"  {name:<10}{what}" for name, (_, what) in COMMANDS.items()
)


def main(args: list[str] | None = None) -> None:
    """Run the command that comes first on the command line; args are the command line's."""
    name, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    with user_errors():
        if name in ("-h", "--help"):
            print(USAGE)
            return
        if name not in COMMANDS:
            close = get_close_matches(name, COMMANDS, 1)
            meant = f"did you mean {close[0]}?" if close else f"there are {', '.join(COMMANDS)}"
            raise ValueError(f"no command {name}: {meant}")
        if os.getcwd() not in sys.path:  # as `python` itself has it: where losses of one's own are
            sys.path.append(os.getcwd())
        sys.exit(import_module(COMMANDS[name][0]).main(rest))


if __name__ == "__main__":
    main()
