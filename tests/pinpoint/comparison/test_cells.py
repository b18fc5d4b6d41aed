"""Variants, recorded configurations and the processes of the cells; the cells themselves are stand-ins."""

import json
import sys

import pytest
import torch

from pinpoint.comparison import runner as comparison
from pinpoint.comparison.__main__ import main
from pinpoint.comparison.cell import RESULT
from pinpoint.comparison.runner import locked, run
from pinpoint.comparison.tasks import Task, plan, read_cell
from pinpoint.comparison.variants import Variant, read_variants

SCENES = ["--data=ScenesDataModule", "--trainer.accelerator=cpu"]
CIOU, NWD = Variant("ciou", ("model.loss.box=ciou",)), Variant("nwd", ("model.loss.box=nwd",))

STAND_IN = """
import json, os, sys, time
folder, behaviour = sys.argv[1:]
span = {"start": time.monotonic()}
if behaviour == "fails":
    sys.exit("it went wrong")
time.sleep(0.3)
keys = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
span |= {"end": time.monotonic(), **{key: os.environ.get(key) for key in keys}}
result = {"scores": {"AP": 0.1, "AP50": None}, "resampled": {"AP": [0.1, None]}, "images": 3, "attempts": 1}
result |= {"curves": {"val/map": [[1], [0.1]]}, "seconds": 1.0, "machine": span}
json.dump(result, open(f"{folder}/result.json", "w"))
"""
"""Takes a moment and leaves a result that tells when and where it ran."""


# Variants


def test_variants_of_all_kinds():
    variants = read_variants(
        ["ciou", "nwd"],
        [["model.loss.gain_box", "5", "10"]],
        ["raw hybrid: --model.loss.box=HybridLoss model.loss.box.calibrated=false"],
    )
    assert [variant.name for variant in variants] == [
        "ciou",
        "nwd",
        "gain_box=5",
        "gain_box=10",
        "raw hybrid",
    ]
    assert variants[0].options == ("model.loss.box=ciou",)
    assert variants[3].options == ("model.loss.gain_box=10",)
    assert variants[4].options == ("model.loss.box=HybridLoss", "model.loss.box.calibrated=false")


@pytest.mark.parametrize(
    ("losses", "varied", "named", "message"),
    [
        (["ciou"], [], [], "at least two"),
        (["ciou", "ciou"], [], [], "different names"),
        (["ciou"], [["model.loss.gain_box"]], [], "needs values"),
        (["ciou"], [], ["strong model.loss.gain_box=9"], "NAME: KEY=VALUE"),
        (["ciou"], [], ["strong: model.loss.gain_box 9"], "NAME: KEY=VALUE"),
        (["ciou"], [["data.root", "a/b"]], [], "cannot name a folder"),
    ],
)
def test_a_variant_that_cannot_be_read(losses, varied, named, message):
    with pytest.raises(ValueError, match=message):
        read_variants(losses, varied, named)


# Plan


def test_every_variant_meets_every_seed(tmp_path):
    tasks = plan([CIOU, NWD], [4, 7], SCENES, tmp_path)
    # Whole pairs first, should the comparison be cut short.
    assert [task.name for task in tasks] == ["ciou, seed 4", "nwd, seed 4", "ciou, seed 7", "nwd, seed 7"]
    configs = [json.loads((task.folder / "config.json").read_text()) for task in tasks]
    assert [config["seed_everything"] for config in configs] == [4, 4, 7, 7]
    assert [config["model.loss.box"] for config in configs] == ["ciou", "nwd", "ciou", "nwd"]
    different = {key for key in configs[0] if configs[0][key] != configs[1][key]}
    assert different == {"model.loss.box"}


@pytest.mark.slow
def test_a_begun_cell_of_another_configuration_is_refused(tmp_path):
    first, *_ = plan([CIOU, NWD], [0], SCENES, tmp_path)
    plan([CIOU, NWD], [0], [*SCENES, "--model.loss.gain_box=5"], tmp_path)  # nothing has begun yet
    (first.folder / "attempt_0").mkdir()
    plan([CIOU, NWD], [0], [*SCENES, "--model.loss.gain_box=5"], tmp_path)
    with pytest.raises(ValueError, match=r"gain_box: 5\.0 there, 6\.0 now") as error:
        plan([CIOU, NWD], [0], [*SCENES, "--model.loss.gain_box=6"], tmp_path)
    assert str(first.folder) in str(error.value)
    assert "--output" in str(error.value)


@pytest.mark.parametrize("option", ["--seed_everything=3", "--trainer.devices=2", "--trainer.logger=false"])
def test_options_that_the_comparison_sets_are_refused(tmp_path, option):
    with pytest.raises(ValueError, match="set by the comparison itself"):
        plan([CIOU, NWD], [0], [*SCENES, option], tmp_path)
    varied = Variant("x", (option.removeprefix("--"),))
    with pytest.raises(ValueError, match="set by the comparison itself"):
        plan([CIOU, varied], [0], SCENES, tmp_path)


def test_cells_choose_no_batch_for_themselves(tmp_path):
    with pytest.raises(ValueError, match="cells of other batches do not compare"):
        plan([CIOU, NWD], [0], [*SCENES, "--data.batch_size=auto"], tmp_path)


def test_a_mistake_in_the_last_variant_shows_before_the_first_cell(tmp_path):
    with pytest.raises(ValueError, match=r"gain_bix; did you mean --model\.loss\.gain_box"):
        plan([CIOU, Variant("typo", ("model.loss.gain_bix=3",))], [0], SCENES, tmp_path)


def test_a_configuration_without_last_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match="add LastCheckpoint"):
        plan([CIOU, NWD], [0], [*SCENES, "--trainer.callbacks=null"], tmp_path)


# Processes


@pytest.fixture
def stand_in(monkeypatch, tmp_path):
    """Four tasks whose processes are stand-ins; `fail` names those that fail."""
    fail = set()
    monkeypatch.setattr(
        comparison,
        "_command",
        lambda task: [
            *(sys.executable, "-S", "-c", STAND_IN, str(task.folder)),
            "fails" if task.name in fail else "works",
        ],
    )
    tasks = [Task(name, seed, tmp_path / name / str(seed), ()) for seed in (0, 1) for name in ("a", "b")]
    for task in tasks:
        task.folder.mkdir(parents=True)
        (task.folder / "config.json").write_text('{"trainer.accelerator": "auto"}')
    return tasks, fail


def spans(tasks):
    return [json.loads((task.folder / RESULT).read_text())["machine"] for task in tasks]


def most_at_once(tasks):
    times = spans(tasks)
    return max(sum(other["start"] <= one["start"] < other["end"] for other in times) for one in times)


@pytest.fixture
def lock(tmp_path):
    with locked(tmp_path / "lock") as descriptor:
        yield descriptor


@pytest.mark.parametrize("jobs", [1, 2])
def test_as_many_processes_as_jobs(stand_in, lock, jobs, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 6)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    tasks, _ = stand_in
    assert run(tasks, jobs, lock) == []
    assert most_at_once(tasks) == jobs
    assert {span["OMP_NUM_THREADS"] for span in spans(tasks)} == {str(6 // jobs)}


def test_one_process_a_gpu(stand_in, lock, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,3")
    tasks, _ = stand_in
    run(tasks, None, lock)
    assert most_at_once(tasks) == 2
    used = [span["CUDA_VISIBLE_DEVICES"] for span in spans(tasks)]
    assert used[:2] == ["5", "3"]
    assert set(used) == {"5", "3"}


def test_a_finished_cell_is_not_repeated(stand_in, lock, capsys):
    tasks, _ = stand_in
    run(tasks[:2], 2, lock)
    before = spans(tasks[:2])
    run(tasks, 2, lock)
    assert spans(tasks[:2]) == before
    output = capsys.readouterr().out
    assert "4 cells: 2 finished, 2 to train" in output
    assert "[4/4]" in output


def test_a_failed_cell_does_not_stop_the_others(stand_in, lock, capsys):
    tasks, fail = stand_in
    fail.add("a, seed 0")
    assert run(tasks, 1, lock) == [tasks[0]]
    assert [task.finished for task in tasks] == [False, True, True, True]
    assert "it went wrong" in capsys.readouterr().out
    fail.clear()
    assert run(tasks, 1, lock) == []


def test_progress_tells_the_score_and_the_time_left(stand_in, lock, capsys):
    tasks, _ = stand_in
    run(tasks, 1, lock)
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("[1/4] a, seed 0: AP 0.100, AP50 nan after 1 s; about")
    assert "left" not in lines[-1]


def test_jobs_must_be_positive(stand_in, lock):
    with pytest.raises(ValueError, match="at least 1"):
        run(stand_in[0], 0, lock)


def test_a_cell_is_read_as_it_was_written(stand_in, lock):
    tasks, _ = stand_in
    run(tasks[:1], 1, lock)
    cell = read_cell(tasks[0])
    assert cell.scores["AP"] == 0.1
    assert cell.scores["AP50"] != cell.scores["AP50"]  # null is NaN
    assert cell.resampled["AP"].shape == (2,)
    assert cell.curves["val/map"][1].tolist() == [0.1]


def test_one_comparison_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(ValueError, match="another comparison works"), locked(tmp_path, 0.1):
        pass
    with locked(tmp_path, patience=0):
        pass


def test_a_process_that_outlives_the_comparison_keeps_the_lock(tmp_path, monkeypatch):
    # As a cell's does for a moment when the comparison is killed.
    monkeypatch.setattr(comparison, "_command", lambda task: [sys.executable, "-S", "-c", "input()"])
    with locked(tmp_path) as lock:
        process = comparison._start(Task("a", 0, tmp_path, ()), None, 1, lock)
    with pytest.raises(ValueError, match="another comparison"), locked(tmp_path, patience=0):
        pass
    process.communicate(b"\n")
    with locked(tmp_path, patience=0):
        pass


def test_variants_that_are_given_twice_are_all_read() -> None:
    with pytest.raises(ValueError, match="cannot read the variant 'no colon here'"):
        main(
            ["--config=compare_scenes", "--variants", "no colon here", "--variants", "a: model.loss.box=ciou"]
        )
