"""What ends a command is said in one message."""

import pytest

from pinpoint.cli.errors import WORKER, user_errors


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (ValueError("a.jpg is broken"), 2, "error: a.jpg is broken\n"),
        (
            RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. \nmore"),
            2,
            f"error: {WORKER} (DataLoader worker (pid 7) is killed by signal: Killed. )\n",
        ),
    ],
)
def test_one_message(error: BaseException, code: int, said: str, monkeypatch, capsys) -> None:
    monkeypatch.delenv("PINPOINT_TRACEBACK", raising=False)
    with pytest.raises(SystemExit) as stop, user_errors():
        raise error
    assert stop.value.code == code
    assert capsys.readouterr().err == said


def test_other_errors_are_ours(monkeypatch) -> None:
    monkeypatch.delenv("PINPOINT_TRACEBACK", raising=False)
    with pytest.raises(RuntimeError, match="ours"), user_errors():
        raise RuntimeError("ours")
