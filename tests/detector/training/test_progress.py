"""What a run says while it goes."""

import csv
import math
from pathlib import Path

import pytest
from tiny import TINY_MODEL, Run, tiny_scenes

import train
from detector.checkpoint import load_checkpoint
from detector.training.progress import append_row, duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(42.4, "42 s"), (60, "1 min"), (13 * 60 + 40, "14 min"), (7500, "2 h 05 min"), (273600, "3 d 4 h")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_rows_go_on_in_the_columns_that_there_are(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    append_row(path, {"epoch": 0, "loss": 1.5})
    append_row(path, {"epoch": 1, "loss": 0.25, "AP": 0.125})
    # A run that goes on from the end of epoch 0 trains epoch 1 again.
    append_row(path, {"epoch": 1, "loss": 0.5})
    assert path.read_text() == "epoch,loss,AP\n0,1.5,\n1,0.5,\n"
    assert list(tmp_path.iterdir()) == [path]


def test_results_csv_has_a_row_an_epoch(run: Run) -> None:
    rows = list(csv.DictReader((run.folder / "results.csv").open()))
    assert [row["epoch"] for row in rows] == ["0", "1"]
    assert [row["step"] for row in rows] == ["3", "6"]
    for row in rows:
        terms = [float(row[f"train/{name}"]) for name in ("loss_box", "loss_cls", "loss_dfl")]
        assert float(row["train/loss"]) == pytest.approx(sum(terms), rel=1e-4)
        assert 0 <= float(row["val/AP"]) <= float(row["val/AP50"]) <= 1
        assert float(row["images_per_second"]) > 0
    assert float(rows[0]["seconds"]) < float(rows[1]["seconds"])


def test_every_epoch_says_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [*tiny_scenes(tmp_path, 4), *TINY_MODEL, "--trainer.accelerator=cpu", "--trainer.max_epochs=2"]
    seldom = ["--trainer.check_val_every_n_epoch=7", f"--trainer.logger.init_args.save_dir={tmp_path}"]
    train.main([*options, *seldom])
    first, second = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert first.startswith("epoch 0/1: loss ")
    assert " images/s, " in first
    assert first.endswith(" left")
    assert "AP" not in first  # not validated
    assert " AP50 " in second  # the last epoch always is
    assert second.endswith("0 s left")


def test_a_run_that_its_steps_end_is_validated_there(tmp_path: Path) -> None:
    options = [*tiny_scenes(tmp_path, 8), *TINY_MODEL, "--trainer.accelerator=cpu", "--trainer.max_epochs=9"]
    names = [f"--trainer.logger.init_args.save_dir={tmp_path}", "--trainer.check_val_every_n_epoch=7"]
    train.main([*options, *names, "--trainer.max_steps=3", "--data.batch_size=4"])
    (path,) = tmp_path.rglob("results.csv")
    first, second = csv.DictReader(path.open())
    assert (first["step"], second["step"]) == ("2", "3")
    assert first["val/AP"] == ""
    assert 0 <= float(second["val/AP"]) <= 1
    assert load_checkpoint(str(next(tmp_path.rglob("best.ckpt"))))["global_step"] == 3


def test_an_epoch_without_a_validation_has_no_score(tmp_path: Path) -> None:
    options = [*tiny_scenes(tmp_path, 8), *TINY_MODEL, "--trainer.accelerator=cpu", "--trainer.max_epochs=4"]
    names = [f"--trainer.logger.init_args.save_dir={tmp_path}", "--data.batch_size=4"]
    every = ["--trainer.check_val_every_n_epoch=null", "--trainer.val_check_interval=3"]
    train.main([*options, *names, *every])
    rows = list(csv.DictReader(next(tmp_path.rglob("results.csv")).open()))
    assert [row["step"] for row in rows] == ["2", "4", "6", "8"]
    assert [bool(row["val/AP"]) for row in rows] == [False, True, True, False]


@pytest.mark.slow
def test_a_time_limit_alone_ends_a_run_with_a_whole_schedule(tmp_path: Path) -> None:
    options = [*tiny_scenes(tmp_path, 4), *TINY_MODEL, "--trainer.accelerator=cpu", "--trainer.max_epochs=-1"]
    limit = ["--trainer.max_time=00:00:00:04", f"--trainer.logger.init_args.save_dir={tmp_path}"]
    train.main([*options, *limit, "--trainer.limit_val_batches=0", "--trainer.log_every_n_steps=1"])
    rows = list(csv.DictReader(next(tmp_path.rglob("results.csv")).open()))
    assert len(rows) > 1
    assert all(math.isfinite(float(row["train/loss"])) for row in rows)
