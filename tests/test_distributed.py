"""Two processes on the CPU, as `--trainer.devices=2 --trainer.strategy=ddp` starts them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from ranks import SHAPES, Ended, on_ranks
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import TINY_MODEL, tiny_scenes
from tiny_data import write_yolo

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run folder of two ranks; three validation images, so that their shards are uneven."""
    root = tmp_path_factory.mktemp("ddp")
    script(root, "train.py", *training(root))
    return root / "ddp" / "version_0"


def training(root: Path) -> list[str]:
    """Options of two ranks, whose data and run folder lie in one folder."""
    options = [*tiny_scenes(root), *TINY_MODEL, f"--trainer.logger.init_args.save_dir={root}"]
    options += ["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"]
    return [*options, "--trainer.max_epochs=1", "--trainer.logger.init_args.name=ddp"]


def script(folder: Path, name: str, *options: str, launcher: tuple[str, ...] = ()) -> None:
    """Run a script of ours in a process of its own, and show its output if it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PINPOINT_TRACEBACK": "1"}
    command = [sys.executable, *launcher, str(ROOT / name), *options]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=240)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def one(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one process finds with the best checkpoint of two ranks: as a whole and in tiles, in one go."""
    folder = tmp_path_factory.mktemp("one")
    script(folder, "evaluate.py", *tiled(run), f"--output={folder}", "--trainer.devices=1",
           "--trainer.strategy=auto")  # fmt: skip
    return folder


def tiled(run: Path) -> list[str]:
    return [f"--ckpt_path={run}/checkpoints/best.ckpt", "--tile", "64"]


def test_two_ranks_score_as_one_process_does(run: Path, one: Path) -> None:
    # Training scored its best checkpoint on two ranks; one process must find the same numbers.
    metrics = json.loads((one / "metrics.json").read_text())["whole_images"]
    events = EventAccumulator(str(run), size_guidance={"scalars": 0})
    events.Reload()
    logged = {tag: [event.value for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}
    assert metrics["AR"] > 0
    for name in ("AP50", "AR", "AR_small", "AP/car"):
        assert metrics[name] == pytest.approx(logged[f"val/{name}"][-1], abs=1e-6), name
    images = {p["image_id"] for p in json.loads((one / "predictions.json").read_text())}
    assert len(images) == 3


def test_two_ranks_evaluate_too(run: Path, one: Path, tmp_path: Path) -> None:
    script(tmp_path, "evaluate.py", *tiled(run), f"--output={tmp_path}", "--trainer.devices=2",
           "--trainer.strategy=ddp", "--trainer.accelerator=cpu")  # fmt: skip
    ours, theirs = (json.loads((folder / "metrics.json").read_text()) for folder in (one, tmp_path))
    assert ours == theirs
    assert ours["AR"] != ours["whole_images"]["AR"]
    predictions = [json.loads((folder / "predictions.json").read_text()) for folder in (one, tmp_path)]
    assert predictions[0] == predictions[1]


def test_torchrun_trains_to_the_weights_of_two_devices(run: Path) -> None:
    root = run.parents[1]
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")
    # Without validations, which move no weight.
    options = [*training(root), "--trainer.logger.init_args.name=torchrun", "--trainer.limit_val_batches=0"]
    script(root, "train.py", *options, launcher=launcher)
    ours, theirs = (
        torch.load(folder / "checkpoints" / "last.ckpt") for folder in (run, root / "torchrun" / "version_0")
    )
    assert ours["global_step"] == theirs["global_step"] >= 1
    for part in ("state_dict", "current_model_state"):
        assert ours[part].keys() == theirs[part].keys()
        for name, value in ours[part].items():
            assert torch.equal(value, theirs[part][name]), (part, name)


def test_the_first_rank_draws_what_all_ranks_found(run: Path) -> None:
    events = EventAccumulator(str(run))
    events.Reload()
    assert {"evaluation/sizes", "evaluation/gallery"} <= set(events.Tags()["images"])


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ended]:
    """How ranks ended that scored one to seven images, each with its noise, or met with a fault."""
    folder = tmp_path_factory.mktemp("ranks")
    write_yolo(folder)
    rng = np.random.default_rng(0)
    for i in range(7):
        cv2.imwrite(str(folder / f"images/val/{i}.jpg"), rng.integers(0, 256, (96, 96, 3), dtype=np.uint8))
        (folder / f"labels/val/{i}.txt").write_text(f"{i % 2} 0.{i + 2} 0.{i + 1} 0.2 0.2\n")
    walks = ("walk:1", "walk:2", "walk:3")
    with pytest.MonkeyPatch.context() as patch:  # as users see errors
        patch.delenv("PINPOINT_TRACEBACK", raising=False)
        faults = ("lost_image:2", "killed_first:2", "killed_second:2", "stopped:2", "gone_on:2")
        return on_ranks(folder, *walks, *faults)


def test_ranks_with_few_images_or_none_score_as_one_does(ended: dict[str, Ended]) -> None:
    (one,) = ended["walk:1"].results
    assert len(one["validations"]) == 2 * len(SHAPES)
    assert any(logged["AR"] > 0 for logged in one["validations"])
    for ranks in (ended["walk:2"], ended["walk:3"]):
        assert set(ranks.codes) == {0}, ranks.said
        first = ranks.results[0]["validations"]
        for result in ranks.results:
            assert repr(result["validations"]) == repr(first)  # repr, as NaN equals NaN
        for shape, logged, expected in zip(SHAPES, first[::2], one["validations"][::2], strict=True):
            names = [name for name in expected if "loss" not in name]  # which depends on the batch
            assert [logged[name] for name in names] == pytest.approx(
                [expected[name] for name in names], abs=1e-6, nan_ok=True
            ), shape


def test_steps_of_two_ranks_are_those_of_one_with_their_images(ended: dict[str, Ended]) -> None:
    for result in ended["walk:2"].results:
        weights = ended["walk:1"].results[0]["weights"][0]
        assert result["weights"][0] == pytest.approx(weights, rel=1e-5, abs=1e-6)


def test_the_error_of_one_rank_ends_the_others_with_its_message(ended: dict[str, Ended]) -> None:
    ranks = ended["lost_image:2"]
    assert ranks.codes == [1, 2]
    assert "error: rank 0 stops, as rank 1 failed: 7.jpg does not exist" in ranks.said
    assert "Traceback" not in ranks.said


@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_that_is_killed_ends_the_others(rank: int, ended: dict[str, Ended]) -> None:
    ranks = ended[("killed_first:2", "killed_second:2", "stopped:2")[rank]]
    assert ranks.codes[rank] == -9
    assert ranks.codes[1 - rank] == 1
    assert "rank is gone: it was killed" in ranks.said
    assert "Traceback" not in ranks.said


def test_a_signal_to_one_rank_in_a_validation_ends_all_and_loses_nothing(ended: dict[str, Ended]) -> None:
    ranks = ended["stopped:2"]
    assert ranks.codes == [143, 143], ranks.said
    assert "error: rank 0 stops, as rank 1 was asked to" in ranks.said
    (checkpoint,) = ranks.checkpoints
    assert torch.load(checkpoint)["global_step"] == 1  # of the one step before


def test_ranks_that_go_on_at_an_epochs_end_log_its_objects_together(ended: dict[str, Ended]) -> None:
    ranks = ended["gone_on:2"]
    assert ranks.codes == [0, 0], ranks.said
    assert ranks.results[0] == ranks.results[1]
    assert ranks.results[0]
