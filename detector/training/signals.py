"""Signals that stop a run, held back until a step is whole."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

NAMES = ("SIGINT", "SIGTERM", "SIGUSR1")
"""Ctrl-C; the end as systems ask for it; the warning that SLURM gives before a job's time is over."""


class Stopped(SystemExit):
    """A run that was asked to stop, and has stopped where it can go on.

    Args:
        signum: the signal; the exit code is the one of shells, 128 above it.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(128 + signum)
        self.signum = signum


class Signals:
    """Catches the signals within a `with` block.

    The first one stops at once while nothing can be lost, and from `hold` to `release` only sets `received`,
    which the training looks at when a step is whole. A second one ends the process as if nobody caught it.

    Attributes:
        received: number of the signal that came.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._holding = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self.received = None
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            numbers = [getattr(signal, name) for name in NAMES if hasattr(signal, name)]
            before = {number: signal.getsignal(number) for number in numbers}
            # A process in the background of a script ignores Ctrl-C, which is meant for another one.
            self._before = {n: handler for n, handler in before.items() if handler != signal.SIG_IGN}
        self.install()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._holding = False
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def install(self) -> None:
        """Catch the signals again, whoever caught them meanwhile; nothing outside the block."""
        for number in self._before:
            signal.signal(number, self._on_signal)

    def hold(self) -> None:
        """From here on, something could be lost."""
        self.install()
        self._holding = True
        if self.received is not None:  # whatever came in between has caught the exception
            raise Stopped(self.received)

    def release(self) -> None:
        """From here on, nothing can be lost."""
        self._holding = False

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number
        if not self._holding:
            raise Stopped(number)


SIGNALS = Signals()
"""Those of this process."""
