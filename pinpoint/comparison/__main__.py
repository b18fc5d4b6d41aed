"""Compare trainings: python compare.py --config configs/X.yaml --losses ciou hybrid nwd --seeds 0 1 2.

Each variant is trained with each seed, everything else equal; the report tells differences from noise. The
first variant is the baseline. Run the same command again to go on where it was interrupted. Every option of
train.py may follow and holds for all variants.
"""

import argparse
import shlex
import sys
from pathlib import Path

from pinpoint.cli.arguments import tidy
from pinpoint.cli.calling import called
from pinpoint.cli.errors import user_errors
from pinpoint.cli.recipes import recipe_table


def main(args: list[str] | None = None) -> None:
    """Train the cells that are missing, write the report; exit code 1 if a cell failed."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw, allow_abbrev=False)
    add = parser.add_argument
    add("--config", action="append", default=[], help="recipe, as for train.py")
    add("--losses", nargs="+", action="extend", default=[], metavar="LOSS", help="box losses, each a variant")
    add("--vary", nargs="+", action="append", default=[], metavar="KEY VALUE", help="an option's values")
    several = "'NAME: KEY=VALUE KEY=VALUE'"
    add("--variants", nargs="+", action="extend", default=[], metavar=several, help="several options")
    seeds = "seeds of each variant, 0 1 2 if not given"
    add("--seeds", nargs="+", action="extend", type=int, default=[], help=seeds)
    add("--jobs", type=int, help="cells at a time; one a GPU if not given, one on the CPU")
    add("--output", type=Path, help="folder; runs/compare/RECIPE if not given")
    options, shared = parser.parse_known_args(args)
    if not options.config:
        raise ValueError(f"no recipe: give one for the format of your data\n{recipe_table()}")
    output = options.output or Path("runs/compare") / Path(options.config[-1]).stem
    shared = tidy([*(f"--config={config}" for config in options.config), *shared])

    # Late: all this takes seconds, which --help does not need.
    from pinpoint.comparison.report import write_report
    from pinpoint.comparison.runner import locked, run
    from pinpoint.comparison.tasks import machines, plan, read_cell
    from pinpoint.comparison.variants import read_variants

    variants = read_variants(options.losses, options.vary, options.variants)
    command = shlex.join([*called("compare"), *(sys.argv[1:] if args is None else args)])

    with locked(output) as lock:
        tasks = plan(variants, options.seeds or [0, 1, 2], shared, output)
        failed = run(tasks, options.jobs, lock)
        finished = [task for task in tasks if task.finished]
        if not any(task.variant == variants[0].name for task in finished):
            sys.exit("no cell of the baseline is finished, so there is nothing to compare")
        facts = {"command": f"`{command}`", "machine": machines(finished)}
        names = {variant.name: " ".join(variant.options) for variant in variants}
        cells = [read_cell(task) for task in finished]
        print("\n" + write_report(output, names, cells, facts, [task.name for task in failed]))
    print(f"\nthe report is {output / 'report.md'}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    with user_errors():
        main()
