"""How far a transfer is."""

from __future__ import annotations

import sys
import time


class ByteProgress:
    """A line on stderr: bytes so far, rate, time left.

    On a terminal it is written anew five times a second, elsewhere every 15 s, and in any case at the end.

    Args:
        what: what is going on.
        done: bytes that were there before.
        total: bytes in the end.
    """

    def __init__(self, what: str, done: int, total: int) -> None:
        self.what, self.first, self.done, self.total = what, done, done, total
        self.interactive = sys.stderr.isatty()
        self.start = self.shown = time.monotonic()

    def __enter__(self) -> ByteProgress:
        return self

    def __exit__(self, *_: object) -> None:
        self._show("\n")

    def add(self, count: int) -> None:
        """Count bytes."""
        self.done += count
        if time.monotonic() > self.shown + (0.2 if self.interactive else 15):
            self._show("" if self.interactive else "\n")

    def _show(self, end: str) -> None:
        self.shown = time.monotonic()
        rate = (self.done - self.first) / max(self.shown - self.start, 1e-3)
        line = f"{self.what}: {self.done / 1e6:.1f} of {self.total / 1e6:.1f} MB, {rate / 1e6:.1f} MB/s"
        if self.done < self.total and rate:
            minutes, seconds = divmod(round((self.total - self.done) / rate), 60)
            line += f", {minutes}:{seconds:02} left"
        # The spaces wipe what is left of a longer line.
        print(f"\r{line:<79}" if self.interactive else line, end=end, file=sys.stderr, flush=True)
