"""What a user can mend is reported in one message; all commands share this."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def user_errors() -> Iterator[None]:
    """Report what a user can mend in one message, exit code 2; PINPOINT_TRACEBACK=1 shows where it arose."""
    try:
        yield
    except Exception as error:
        # Lightning's own is known by its name: to import it takes seconds, which --help does not need.
        mendable = (
            isinstance(error, (ValueError, OSError)) or type(error).__name__ == "MisconfigurationException"
        )
        if not mendable or os.environ.get("PINPOINT_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
