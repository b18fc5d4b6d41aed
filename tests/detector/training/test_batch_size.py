import math
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from tiny import TINY_MODEL, tiny_scenes

import train
from detector.checkpoint import load_checkpoint
from detector.training import batch_size
from detector.training.batch_size import AutomaticBatch, free_memory, largest, line
from pinpoint.cli.detection import DetectionCLI

CPU = torch.device("cpu")
ROOT = Path(__file__).parents[3]


def options(folder: Path) -> list[str]:
    return [
        *(word for word in tiny_scenes(folder, images=20) if "batch_size" not in word),
        *TINY_MODEL,
        "--data.batch_size=auto",
        "--trainer.accelerator=cpu",
        "--trainer.max_epochs=1",
        f"--trainer.logger.init_args.save_dir={folder}",
        "--trainer.logger.init_args.name=run",
    ]


def test_memory_is_a_constant_and_so_much_an_image() -> None:
    assert line([700, 1100], (2, 4)) == (300, 200)  # 200 an image: 700 = 300 + 2 * 200
    assert line([400, 300], (2, 4)) == (250, 75)  # the larger batch found memory that was free already
    assert line([400, 0], (2, 4))[1] > 0


@pytest.mark.parametrize(("fits", "images", "size"), [(5, 99, 5), (30, 99, 24), (500, 999, 64), (30, 9, 8)])
def test_multiples_of_eight_that_are_no_more_than_fit(fits: int, images: int, size: int) -> None:
    assert largest(fits, images) == size


def test_the_peak_of_a_cpu_is_what_the_process_takes() -> None:
    """As in a training, whose heap gives nothing back: what it keeps of one probe serves the next."""
    code = (
        "import time, torch; from functools import partial\n"
        "from datamodules.freed_memory import keep_freed_memory\n"
        "from detector.training.batch_size import peak_memory\n"
        "keep_freed_memory()\n"
        "def work(images):\n"
        "    held = [torch.ones(2**20) for _ in range(8 * images)]\n"
        "    time.sleep(0.2)\n"
        "works = [partial(work, images) for images in (2, 4)]\n"
        "print(*peak_memory(works, torch.device('cpu')))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    two, four = map(int, run.stdout.split())
    assert 0.9 * 2**26 < two < 1.5 * 2**26
    assert 0.9 * 2**27 < four < 1.5 * 2**27


def test_a_job_may_have_less_than_its_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(batch_size, "CGROUP", tmp_path)
    whole = free_memory(CPU)
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("1000\n")
    assert free_memory(CPU) == pytest.approx(whole, rel=0.2)
    (tmp_path / "memory.max").write_text("5000\n")
    assert free_memory(CPU) == 4000


@pytest.mark.slow
def test_the_batch_that_fits_is_chosen_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    # 10 MB beside and 10 MB an image of the 60 MB that are its share: 5 fit, less what the weights take.
    monkeypatch.setattr(
        batch_size, "peak_memory", lambda works, device: [work() or peaks.pop(0) for work in works]
    )
    monkeypatch.setattr(batch_size, "free_memory", lambda device: 100 * 2**20)
    peaks = [30 * 2**20, 50 * 2**20]
    train.main(options(tmp_path))
    assert "data.batch_size=auto: 4 images a batch and device (10 MB for each image of 96 x 96" in caplog.text
    assert "learning rate times 0.50, the root of 4/16" in caplog.text
    last = tmp_path / "run" / "version_0" / "checkpoints" / "last.ckpt"
    checkpoint = load_checkpoint(str(last))
    assert checkpoint["global_step"] == 5  # 20 images
    rates = {group["initial_lr"] for group in checkpoint["optimizer_states"][0]["param_groups"]}
    assert rates == {0.002}
    assert yaml.safe_load(checkpoint["config"])["data"]["init_args"]["batch_size"] == "auto"
    train.main([*options(tmp_path), "--trainer.max_epochs=2", f"--ckpt_path={last}"])
    assert "4 images a batch and device (as before in this run)" in caplog.text
    assert load_checkpoint(str(last))["global_step"] == 10


def test_the_smallest_of_all_ranks_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli = DetectionCLI([*options(tmp_path), "--data.augment.mosaic=0.5"])
    cli.datamodule.prepare_data()
    cli.datamodule.setup("fit")
    before = {name: value.clone() for name, value in cli.model.state_dict().items()}
    other_rank = 3

    def reduce(value: torch.Tensor, reduce_op: str) -> torch.Tensor:
        assert reduce_op == "min"
        return value.clamp(max=other_rank)

    trainer = SimpleNamespace(
        strategy=SimpleNamespace(root_device=CPU, reduce=reduce),
        precision_plugin=SimpleNamespace(forward_context=nullcontext),
        num_devices=2,
        datamodule=cli.datamodule,
    )
    state = torch.get_rng_state()
    AutomaticBatch().setup(trainer, cli.model, "fit")
    assert cli.datamodule.batch_size == cli.datamodule.val_batch_size == 3
    assert cli.model.lr_scale == pytest.approx(math.sqrt(3 / 16))
    # What was tried out left no trace: weights, statistics of norms, random numbers.
    assert all(map(torch.equal, before.values(), cli.model.state_dict().values()))
    assert torch.equal(torch.get_rng_state(), state)

    densest = max(len(image.annotations.boxes) for image in cli.datamodule.records["train"].images)
    batch = cli.datamodule.densest_batch(2)
    assert batch.images.shape == (2, 3, 96, 96)
    assert len(batch.boxes) == len(batch.labels) == 2 * 4 * densest  # mosaics show four images
    assert batch.image_index.bincount().tolist() == [4 * densest, 4 * densest]

    monkeypatch.setattr(batch_size, "free_memory", lambda device: 2**20)
    cli.datamodule.batch_size, other_rank = 16, 0
    with pytest.raises(ValueError, match=r"no image fits into the memory .*checkpoint_activations=true"):
        AutomaticBatch().setup(trainer, cli.model, "fit")
