"""What ends a command is said in one message."""

import subprocess
import sys
from pathlib import Path

import pytest

from pinpoint.cli.errors import WORKER, user_errors

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "interrupted\n"),
        (ValueError("a.jpg is broken"), 2, "error: a.jpg is broken\n"),
        (OSError(28, "No space", "m.json"), 2, "error: the disk is full: no room for m.json\n"),
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


def command(code: str, **options: object) -> subprocess.Popen[str]:
    """A process that runs code as a command of ours, its output a pipe."""
    lines = ["from pinpoint.cli.errors import user_errors", "with user_errors():", f"    {code}"]
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", "\n".join(lines)], stdout=pipe, stderr=pipe, text=True, **options
    )


@pytest.mark.parametrize("lines", [1, 10_000])
def test_who_reads_may_stop_before_the_end(lines: int) -> None:
    code = f"import sys; sys.stdin.read(); [print('score') for _ in range({lines})]"
    process = command(code, stdin=subprocess.PIPE)
    process.stdout.close()
    process.stdin.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141


def test_letters_that_the_output_lacks_are_escaped() -> None:
    process = command("print('M\u00e4hdrescher')", env={"PYTHONIOENCODING": "ascii"}, cwd=ROOT)
    assert process.communicate() == ("M\\xe4hdrescher\n", "")
    assert process.returncode == 0
