"""What a user can mend is reported in one message; all commands share this."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WORKER = (
    "a process that reads images has died, most often for lack of memory: use fewer of them with "
    "--data.num_workers=1, or smaller batches"
)


@contextmanager
def user_errors() -> Iterator[None]:
    """Report what a user can mend in one message, exit code 2; PINPOINT_TRACEBACK=1 shows where it arose."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if _of_a_worker(error) and not os.environ.get("PINPOINT_TRACEBACK"):
            print(f"error: {WORKER} ({str(error).splitlines()[0]})", file=sys.stderr)
            sys.exit(2)
        # Lightning's own is known by its name: to import it takes seconds, which --help does not need.
        mendable = (
            isinstance(error, (ValueError, OSError)) or type(error).__name__ == "MisconfigurationException"
        )
        if not mendable or os.environ.get("PINPOINT_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _of_a_worker(error: BaseException) -> bool:
    """Whether torch says that a worker of a loader is gone, or its connection broke as it went."""
    if isinstance(error, (ConnectionError, EOFError)):
        return True
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")
