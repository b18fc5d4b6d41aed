"""What a user can mend is reported in one message; all commands share this."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from lightning.fabric.utilities.exceptions import MisconfigurationException


@contextmanager
def user_errors() -> Iterator[None]:
    """Report what a user can mend in one message, exit code 2; PINPOINT_TRACEBACK=1 shows where it arose."""
    try:
        yield
    except (ValueError, OSError, MisconfigurationException) as error:
        if os.environ.get("PINPOINT_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
