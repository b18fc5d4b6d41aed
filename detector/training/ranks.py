"""Ranks that stop together: what ends one of them ends the others, with its reason."""

from __future__ import annotations

import os
import sys
import threading
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import distributed

PERIOD = 0.5
"""Seconds between two looks at the others."""

GRACE = 5.0
"""Seconds that a rank has to end by itself once one has failed."""

CONNECTION = ("gloo", "nccl", "connection closed", "connection reset", "socket", "broken pipe")
"""Words of errors that say that another rank is gone."""


class RankWatch(Callback):
    """Ends this rank when another one has failed or is gone, however long it would wait for it.

    A rank that fails says why in the store through which the ranks found each other, where a thread of each
    rank looks twice a second: the rank itself may wait in a collective call that never returns. The first
    rank keeps the store, so that its end is seen even if it could not say a word.

    Args:
        rank: number of this process.
        local_rank: its number on this machine; the first one speaks for all.
    """

    def __init__(self, rank: int, local_rank: int) -> None:
        self.rank, self.local_rank = rank, local_rank
        self.finished = threading.Event()
        self.failure: str | None = None  # what another rank said, as soon as it is seen
        self.thread = threading.Thread(target=self._watch, name="rank-watch", daemon=True)
        self.thread.start()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Look no more: the others may end before this rank."""
        self._finish()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Tell the others, and end before callbacks that would save with all ranks taking part.

        Raises:
            BaseException: the exception.
            SystemExit: another rank has said the same already.
        """
        for logger in trainer.loggers:
            logger.finalize("failed")
        if _is_of_connection(exception):
            time.sleep(4 * PERIOD)  # in which the watch sees why, if the other one could say it
            if self.failure is not None:
                self._heed(self.failure)
            self._stop(
                1, "another rank is gone: it was killed, perhaps for lack of memory, or its machine is", 1
            )
        own = f"{_code(exception)}\n{self.rank}\n{str(exception) or type(exception).__name__}"
        first = None
        if distributed.is_initialized():
            with suppress(RuntimeError, distributed.DistError):
                store = _connect()
                store.compare_set("failure", "", own)
                first = store.get("failure").decode()
        if first in (None, own):
            time.sleep(3 * PERIOD)  # the store may end with this rank, and all shall have seen it
        elif first.split("\n", 2)[2] != own.split("\n", 2)[2]:
            self._heed(first)
        self._finish()
        if self.local_rank > 0:
            _wait_for_end(os.getppid())
        # Whatever else the end waits for.
        timer = threading.Timer(GRACE, os._exit, [_code(exception)])
        timer.daemon = True
        timer.start()
        said = first not in (None, own) and not isinstance(exception, SystemExit)
        raise SystemExit(_code(exception)) if said else exception

    def _finish(self) -> None:
        self.finished.set()
        self.thread.join(GRACE)  # Python must not end while it is in torch's code

    def _watch(self) -> None:
        while not distributed.is_initialized():
            if self.finished.wait(PERIOD):
                return
        failure = None
        try:
            store = _connect()
            while failure is None:
                if self.finished.wait(PERIOD):
                    return
                failure = store.get("failure").decode() if store.check(["failure"]) else None
        except (RuntimeError, distributed.DistError):
            if not self.finished.wait(GRACE):  # at a run's end the first rank may be gone before this one
                self._stop(1, "the first rank is gone: it was killed, perhaps for lack of memory", 1)
            return
        if failure.split("\n", 2)[1] == str(self.rank):
            return
        self.failure = failure
        # This rank may end by itself, of the same error or signal.
        if not self.finished.wait(GRACE if _code_of(failure) > 128 else 2 * PERIOD):
            self._heed(failure)

    def _heed(self, failure: str) -> None:
        _, rank, message = failure.split("\n", 2)
        asked = _code_of(failure) > 128
        self._stop(_code_of(failure), f"rank {rank} " + ("was asked to" if asked else f"failed: {message}"))

    def _stop(self, code: int, why: str, speakers: int = 0) -> None:
        """End this process now, whatever its main thread waits for; ranks up to a number say why."""
        if why and self.local_rank <= speakers:
            print(f"error: rank {self.rank} stops, as {why}", file=sys.stderr)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _connect() -> Any:  # noqa: ANN401  # torch's stores are not typed
    """A connection of one's own to the store through which the ranks found each other."""
    host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = distributed.TCPStore(  # type: ignore[attr-defined]
        host, port, is_master=False, timeout=timedelta(seconds=30)
    )
    # Runs that torchrun starts again find the store of the time before.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    return distributed.PrefixStore(f"pinpoint/{attempt}", store)  # type: ignore[attr-defined]


def _wait_for_end(parent: int) -> None:
    """Let the first rank end before this one: Lightning's launcher kills it where a child has failed."""
    patience = time.monotonic() + GRACE
    while os.getppid() == parent and time.monotonic() < patience:
        time.sleep(PERIOD / 5)


def _code_of(failure: str) -> int:
    return int(failure.partition("\n")[0])


def _is_of_connection(exception: BaseException) -> bool:
    """Whether an error of torch.distributed says that another rank does not answer any more."""
    if isinstance(exception, distributed.DistError):
        return True
    return type(exception) is RuntimeError and any(word in str(exception).lower() for word in CONNECTION)


def _code(exception: BaseException) -> int:
    """Exit code that an exception ends a process with."""
    if isinstance(exception, SystemExit):
        return exception.code if isinstance(exception.code, int) else 1
    return 130 if isinstance(exception, KeyboardInterrupt) else 1
