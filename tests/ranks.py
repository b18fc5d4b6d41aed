"""Ranks on the CPU: `python ranks.py FUNCTION FOLDER RANKS ...` calls a function below on so many at once.

They are forked from one process that has imported everything: to start each anew takes seconds.
"""

import json
import os
import signal
import subprocess
import sys
from contextlib import closing, suppress
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from socket import socket

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch import distributed, nn

from datamodules.base import DetectionDataModule
from datamodules.formats.yolo import read_description, read_yolo
from datamodules.transforms.augment import Augment
from detector.assigner import TaskAlignedAssigner
from detector.module import Detector
from detector.networks.network import Network
from detector.postprocess import Postprocess
from detector.training.ema import EMA
from losses.detection import DetectionLoss

NAMES = ["car", "unclear"]

SHAPES = [(1, 1), (2, 1), (3, 2), (5, 2), (7, 4)]
"""Numbers of validation images, and of images in a batch."""


def on_ranks(function: str, folder: Path, *worlds: int, timeout: int = 240) -> dict[int, list[dict]]:
    """Call a function on each number of ranks; what each rank returned.

    Ranks that wait for each other are killed after `timeout` seconds.
    """
    command = [sys.executable, __file__, function, str(folder), *map(str, worlds)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("w+") as log:
        main = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        try:
            code = main.wait(timeout)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(main.pid, signal.SIGKILL)
        assert code == 0, (folder / "log.txt").read_text()
    return {
        world: [json.loads((folder / f"{rank}-of-{world}.json").read_text()) for rank in range(world)]
        for world in worlds
    }


def walk(folder: Path, world: int) -> dict[str, list[dict[str, float]]]:
    """Everything that needs ranks, as starting them costs most."""
    weights = [steps(folder, world)] if world < 3 else []
    return {"validations": uneven_validations(folder, world), "weights": weights}


def uneven_validations(folder: Path, world: int) -> list[dict[str, float]]:
    """What was logged of each shape: by the sanity check, and by a validation after an epoch, one by one."""
    found, start = [], model()
    for images, batch_size in SHAPES:
        module, recorder = deepcopy(start), Recorder()
        trainer = quiet_trainer(world, max_epochs=1, num_sanity_val_steps=-1, callbacks=[EMA(), recorder])
        trainer.fit(module, data(folder, images, val_batch_size=batch_size))
        found += recorder.logged
    return found


def steps(folder: Path, world: int) -> dict[str, float]:
    """Sums of the weights after three steps on the same two images, with norms that keep their statistics."""
    module = model()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.eval()
    trainer = quiet_trainer(world, max_epochs=3, limit_val_batches=0)
    trainer.fit(module, data(folder, 2, batch_size=2 // world))
    return {name: float(value.double().sum()) for name, value in module.network.state_dict().items()}


class Recorder(Callback):
    """Keeps what each validation logged."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: Detector) -> None:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if "val/" in name}
        self.logged.append(dict(pl_module.last_scores) | logged)


def model() -> Detector:
    """A tiny network, the same on every rank."""
    seed_everything(0, verbose=False)
    network = Network(2, (64, 64), "mobilenetv4_conv_small_050", strides=(8, 16), channels=16)
    sgd = lambda parameters: torch.optim.SGD(parameters, lr=0.1)  # noqa: E731
    return Detector(NAMES, network, DetectionLoss("ciou"), TaskAlignedAssigner(), Postprocess(), sgd)


def data(folder: Path, images: int, **options: int) -> DetectionDataModule:
    """Two images to train on, so many of seven to validate with."""
    description = read_description(folder / "data.yaml")

    def validation(names, problems):
        records = read_yolo(description, "val", (), names, problems)
        return replace(records, images=records.images[:images])

    readers = {"train": lambda *given: read_yolo(description, "train", (), *given), "val": validation}
    options = {"batch_size": 1, "num_workers": 0, **options}
    return DetectionDataModule(readers, NAMES, 64, augment=Augment(mosaic=0.0), **options)


def quiet_trainer(world: int, **options: object) -> Trainer:
    """A trainer of so many ranks that keeps and says nothing."""
    quiet = ("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary")
    return Trainer(
        accelerator="cpu",
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        use_distributed_sampler=False,
        **dict.fromkeys(quiet, False),
        **options,
    )


def main(function: str, folder: str, *worlds: str) -> None:
    """Fork the ranks of one world after the other."""
    for world in map(int, worlds):
        with closing(socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = []
        for rank in range(world):
            child = os.fork()
            if child:
                children.append(child)
                continue
            here = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": world, "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in here.items()}, MASTER_ADDR="127.0.0.1")
            torch.set_num_threads(1)
            result = globals()[function](Path(folder), world)
            Path(folder, f"{rank}-of-{world}.json").write_text(json.dumps(result))
            if distributed.is_initialized():
                distributed.destroy_process_group()
            os._exit(0)
        assert not any(os.waitpid(child, 0)[1] for child in children)


if __name__ == "__main__":
    main(*sys.argv[1:])
