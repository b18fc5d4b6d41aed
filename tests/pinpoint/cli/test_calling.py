"""Commands as the user of a process writes them."""

from pathlib import Path

import pytest

from pinpoint.cli.calling import called, command


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["train.py", "--config", "a b.yaml"], "python train.py --config 'a b.yaml' --ckpt_path=x/last.ckpt"),
        (["/usr/bin/pinpoint", "train", "--ckpt_path", "old"], "pinpoint train --ckpt_path=x/last.ckpt"),
        (["/p/pinpoint/__main__.py", "train"], "python -m pinpoint train --ckpt_path=x/last.ckpt"),
        (["train.py", "--ckpt_path=old", "--a=1"], "python train.py --a=1 --ckpt_path=x/last.ckpt"),
    ],
)
def test_the_command_that_goes_on(argv: list[str], line: str) -> None:
    assert command("x/last.ckpt", argv) == line


def test_another_command_is_called_as_this_one_was(tmp_path: Path) -> None:
    (tmp_path / "evaluate.py").touch()
    assert called("evaluate", str(tmp_path / "train.py")) == ["python", str(tmp_path / "evaluate.py")]
    assert called("evaluate", "/elsewhere/bin/pinpoint") == ["pinpoint", "evaluate"]
    for program in ("/elsewhere/pinpoint/__main__.py", "/elsewhere/mine.py"):
        assert called("evaluate", program) == ["python", "-m", "pinpoint", "evaluate"]
