"""What a user can mend is reported in one message; all commands share this."""

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager

WORKER = (
    "a process that reads images has died, most often for lack of memory: use fewer of them with "
    "--data.num_workers=1, or smaller batches"
)


@contextmanager
def user_errors() -> Iterator[None]:
    """Report what a user can mend in one message, exit code 2; PINPOINT_TRACEBACK=1 shows where it arose.

    Letters that the output's encoding does not have are written as escapes. Who reads the output may stop
    before its end: exit code 141, as of other commands in a pipe.
    """
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            sys.exit(141)
        if _of_a_worker(error) and not os.environ.get("PINPOINT_TRACEBACK"):
            print(f"error: {WORKER} ({str(error).splitlines()[0]})", file=sys.stderr)
            sys.exit(2)
        # Lightning's own is known by its name: to import it takes seconds, which --help does not need.
        mendable = (
            isinstance(error, (ValueError, OSError)) or type(error).__name__ == "MisconfigurationException"
        )
        if not mendable or os.environ.get("PINPOINT_TRACEBACK"):
            raise
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        where = getattr(error, "filename", None) or "what the command writes"
        print(f"error: {f'the disk is full: no room for {where}' if full else error}", file=sys.stderr)
        sys.exit(2)


def _nobody_reads() -> bool:
    """Whether standard output is a pipe that its reader has closed; what was to be written is dropped."""
    if not hasattr(select, "poll"):  # Windows has other errors for it
        return False
    output, pipe = sys.stdout.fileno(), select.poll()
    pipe.register(output, 0)  # errors are told unasked
    closed = any(event & select.POLLERR for _, event in pipe.poll(0))
    if closed:  # Python flushes once more as it ends, and would say so
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return closed


def _of_a_worker(error: BaseException) -> bool:
    """Whether torch says that a worker of a loader is gone, or its connection broke as it went."""
    if isinstance(error, (ConnectionError, EOFError)):
        return True
    return isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker")
