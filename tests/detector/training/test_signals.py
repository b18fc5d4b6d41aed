"""Signals stop at once while nothing can be lost, and are held back while something can."""

import contextlib
import os
import signal

import pytest

from detector.training.signals import Signals, Stopped


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_at_once_with_the_exit_code_of_shells(number: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stopped, Signals():
        send(number)
    assert stopped.value.code == 128 + number
    assert signal.getsignal(number) is before


def test_held_back_until_they_are_looked_at() -> None:
    with Signals() as signals:
        signals.hold()
        send(signal.SIGTERM)
        assert signals.received == signal.SIGTERM


def test_one_that_was_caught_on_the_way_stops_before_the_first_step() -> None:
    with Signals() as signals:
        with contextlib.suppress(SystemExit):
            send(signal.SIGTERM)
        with pytest.raises(Stopped):
            signals.hold()


def test_what_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Signals():
            send(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_second_one_ends_the_process() -> None:
    child = os.fork()
    if child == 0:
        with Signals() as signals:
            signals.hold()
            send(signal.SIGTERM)
            send(signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM
