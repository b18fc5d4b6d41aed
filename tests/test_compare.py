"""A comparison as a user runs it: tiny trainings, killed half-way, gone on with; and one cell twice."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tiny import TINY_MODEL, tiny_scenes

import compare
from detector.checkpoint import load_checkpoint
from pinpoint.cli.detection import DetectionCLI
from pinpoint.comparison.cell import RESULT, read_curves, run_cell
from pinpoint.comparison.tasks import plan
from pinpoint.comparison.variants import read_variants

pytestmark = pytest.mark.slow

LOSSES = ["ciou", "nwd"]
EPOCHS = 5


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    recipe = Path(compare.__file__).parent / "configs" / "compare_scenes.yaml"
    tiny = [*tiny_scenes(tmp_path_factory.mktemp("compare")), *TINY_MODEL, "--trainer.accelerator=cpu"]
    validated = ["--trainer.check_val_every_n_epoch=1", f"--trainer.max_epochs={EPOCHS}"]
    return ["--config", str(recipe), *tiny, *validated]


@pytest.fixture(scope="module")
def uninterrupted(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of both cells, trained in one go each."""
    torch.set_num_threads(1)
    tasks = plan(read_variants(LOSSES, [], []), [1], options, tmp_path_factory.mktemp("uninterrupted"))
    for task in tasks:
        run_cell(task.folder, task.arguments)
    return {task.variant: task.folder for task in tasks}


def result(folder: Path) -> dict[str, object]:
    """What a cell found, without its time and number of attempts."""
    content = json.loads((folder / RESULT).read_text())
    return {key: content[key] for key in ("scores", "resampled", "images", "curves")}


def weights(folder: Path, attempt: int = 0) -> dict[str, torch.Tensor]:
    return load_checkpoint(str(folder / f"attempt_{attempt}" / "checkpoints" / "last.ckpt"))["state_dict"]


def assert_same_weights(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    different = [name for name in a if not torch.equal(a[name], b[name])]
    assert not different


def wait_for(condition: Callable[[], bool]) -> None:
    while not condition():  # pytest's own limit ends a wait in vain
        time.sleep(0.02)


def test_one_cell_twice_is_the_same_to_the_last_digit(
    options: list[str], uninterrupted: dict[str, Path], tmp_path: Path
) -> None:
    task, _ = plan(read_variants(LOSSES, [], []), [1], options, tmp_path)
    run_cell(task.folder, task.arguments)
    assert_same_weights(weights(task.folder), weights(uninterrupted["ciou"]))
    assert result(task.folder) == result(uninterrupted["ciou"])
    # Not the equality of networks that learned nothing.
    other = weights(uninterrupted["nwd"])
    assert any(not torch.equal(other[name], value) for name, value in weights(task.folder).items())


def test_all_variants_of_a_seed_start_alike(options: list[str]) -> None:
    def initial(loss: str, seed: int) -> dict[str, torch.Tensor]:
        return DetectionCLI(
            [*options, f"--model.loss.box={loss}", f"--seed_everything={seed}"]
        ).model.state_dict()

    start = initial("ciou", 1)
    for loss in ("nwd", "hybrid", "smooth_l1"):
        assert_same_weights(initial(loss, 1), start)
    other = initial("ciou", 2)
    assert any(not torch.equal(other[name], value) for name, value in start.items())


def test_a_killed_comparison_goes_on_and_repeats_nothing(
    options: list[str], uninterrupted: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [*options, "--losses", *LOSSES, "--seeds", "1", "--output", str(tmp_path)]
    ciou, nwd = (tmp_path / "cells" / loss / "seed_1" for loss in LOSSES)
    shutil.copytree(uninterrupted["ciou"], ciou)  # as if trained here already
    finished = (ciou / RESULT).stat().st_mtime_ns
    script = [sys.executable, compare.__file__, *arguments]
    with subprocess.Popen(script, env=os.environ | {"OMP_NUM_THREADS": "1"}) as process:
        # Kill the comparison alone, in the midst of its second cell; the cell's process must follow.
        wait_for((nwd / "attempt_0" / "checkpoints" / "last.ckpt").is_file)
        process.send_signal(signal.SIGKILL)
    assert not (nwd / RESULT).exists()
    capsys.readouterr()

    with pytest.raises(SystemExit) as stop:
        compare.main(arguments)  # waits for the lock until the orphan has ended
    assert stop.value.code == 0
    assert "2 cells: 1 finished, 1 to train" in capsys.readouterr().out
    assert (ciou / RESULT).stat().st_mtime_ns == finished
    assert [path.name for path in ciou.glob("attempt_*")] == ["attempt_0"]
    # The orphan was stopped before its end, and the second attempt went on from there to the same result.
    steps = {k: read_curves([nwd / f"attempt_{k}"])["val/map"][0] for k in (0, 1)}
    assert steps[1][0] > steps[0][0]
    assert load_checkpoint(str(nwd / "attempt_0" / "checkpoints" / "last.ckpt"))["epoch"] < EPOCHS - 1
    assert sorted(path.name for path in nwd.glob("attempt_*")) == ["attempt_0", "attempt_1"]
    assert_same_weights(weights(nwd, attempt=1), weights(uninterrupted["nwd"]))
    assert result(nwd) == result(uninterrupted["nwd"])
    assert "interrupted and resumed: nwd, seed 1" in (tmp_path / "report.md").read_text()

    with pytest.raises(SystemExit) as stop:  # nothing is left to train
        compare.main(arguments)
    assert stop.value.code == 0
    assert "2 cells: 2 finished, 0 to train" in capsys.readouterr().out
