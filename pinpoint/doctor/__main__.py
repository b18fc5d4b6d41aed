"""Examine a data set: python -m pinpoint.doctor --config configs/custom.yaml [--data.option value ...].

Reads it once, reports what is wrong with file and row, draws its statistics, and advises options. Every
option of train.py may follow; those of the data count.
"""

import argparse
import shlex
import sys
from pathlib import Path

from pinpoint.cli.arguments import results_label, tidy
from pinpoint.cli.errors import user_errors
from pinpoint.cli.recipes import data_module


def main(args: list[str] | None = None) -> int:
    """Examine a data set and write the report.

    Args:
        args: the command line's.

    Returns:
        The exit code: 1 if there are errors, else 0.
    """
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "python -m pinpoint.doctor", description=__doc__, formatter_class=raw, allow_abbrev=False
    )
    add = parser.add_argument
    add("--config", type=Path, action="append", default=[], help="recipe, as for train.py")
    add("--output", type=Path, help="folder of the report; runs/doctor/RECIPE_DATA if not given")
    add("--annotations-only", action="store_true", help="open no images: no damage, no near duplicates, fast")
    options, overrides = parser.parse_known_args(args)
    name = options.config[-1].stem if options.config else "data"
    label = "_".join([name, *results_label(tidy(overrides))])
    folder = options.output or Path("runs/doctor") / label

    # Late: all this takes seconds, which --help does not need.
    from pinpoint.cli.parser import network_options
    from pinpoint.doctor.diagnosis import examine
    from pinpoint.doctor.findings import count
    from pinpoint.doctor.report import summary, write_report

    data = data_module(options.config, overrides)
    data.prepare_data()
    result = examine(data, options.annotations_only)
    command = shlex.join(["python", "-m", "pinpoint.doctor", *(sys.argv[1:] if args is None else args)])
    network = network_options(tidy([*(f"--config={config}" for config in options.config), *overrides]))
    write_report(result, folder, name, options.config, command, network)
    print("\n".join(summary(result)))
    errors, warnings = (count(result.findings, severity) for severity in ("error", "warning"))
    print(f"{errors} errors, {warnings} warnings; the report is {folder / 'report.md'}")
    return int(errors > 0)


if __name__ == "__main__":
    with user_errors():
        sys.exit(main())
