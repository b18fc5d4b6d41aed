"""Ranks on the CPU: `python ranks.py FOLDER FUNCTION:RANKS ...` calls functions below on so many at once.

They are forked from one process that has imported everything: to start each anew takes seconds.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from socket import socket

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.callbacks import Checkpoint, LambdaCallback
from torch import distributed, nn

from datamodules.base import DetectionDataModule
from datamodules.formats.yolo import read_description, read_yolo
from datamodules.problems import DataError
from datamodules.transforms.augment import Augment
from detector.assigner import TaskAlignedAssigner
from detector.module import Detector
from detector.networks.network import Network
from detector.postprocess import Postprocess
from detector.training.checkpoints import LastCheckpoint
from detector.training.ema import EMA
from detector.training.ranks import RankWatch
from detector.training.signals import SIGNALS
from losses.detection import DetectionLoss
from pinpoint.cli.errors import user_errors

ROOT = Path(__file__).resolve().parents[1]

LIMIT = 60.0
"""Seconds after which ranks are killed that wait for each other."""

NAMES = ["car", "unclear"]

SHAPES = [(1, 1), (2, 1), (3, 2), (5, 2), (7, 4)]
"""Numbers of validation images, and of images in a batch."""


@dataclass(frozen=True)
class Ended:
    """How ranks ended.

    Attributes:
        codes: of their exits, a signal's number negative; None for ranks that waited until they were killed.
        said: what they printed.
        results: what each returned.
        checkpoints: files that were left behind.
    """

    codes: list[int | None]
    said: str
    results: list[dict]
    checkpoints: list[Path]


def on_ranks(folder: Path, *calls: str) -> dict[str, Ended]:
    """Call each `FUNCTION:RANKS`; how the ranks ended."""
    # Before this file's own folder, which holds folders of the names of our packages and no code of theirs.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, __file__, str(folder), *calls], env=environment, check=True, timeout=280)
    ended = {}
    for call in calls:
        files = [folder / f"{call}-{rank}.json" for rank in range(int(call.partition(":")[2]))]
        results = [json.loads(file.read_text()) for file in files if file.exists()]
        codes = json.loads((folder / f"{call}.json").read_text())
        ended[call] = Ended(codes, (folder / f"{call}.log").read_text(), results, [*folder.rglob("*.ckpt")])
    return ended


def walk(folder: Path, world: int) -> dict[str, list[dict[str, float]]]:
    """Everything that needs ranks, as starting them costs most."""
    weights = [steps(folder, world)] if world < 3 else []
    return {"validations": uneven_validations(folder, world), "weights": weights}


def uneven_validations(folder: Path, world: int) -> list[dict[str, float]]:
    """What was logged of each shape: by the sanity check, and by a validation after an epoch, one by one."""
    found = []
    for images, batch_size in SHAPES:
        module, recorder = model(), Recorder()
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


def lost_image(folder: Path, world: int) -> None:
    """An image of one rank is gone in the third step."""

    def fault(trainer: Trainer) -> None:
        if trainer.global_step == 2 and trainer.global_rank == 1:
            raise DataError("7.jpg does not exist")

    train_with(fault, folder, world)


def killed_first(folder: Path, world: int) -> None:
    """The first rank, which keeps the store, is killed in the third step."""
    train_with(lambda trainer: killed(trainer, 0), folder, world)


def killed_second(folder: Path, world: int) -> None:
    """The second rank is killed in the third step."""
    train_with(lambda trainer: killed(trainer, 1), folder, world)


def stopped(folder: Path, world: int) -> None:
    """The second rank gets a signal in a validation, in which ranks do not wait for each other."""
    strike = lambda trainer, *_: trainer.global_rank and os.kill(os.getpid(), signal.SIGTERM)  # noqa: E731
    callbacks = [LambdaCallback(on_validation_batch_start=strike), LastCheckpoint()]
    trainer = quiet_trainer(world, num_sanity_val_steps=0, callbacks=callbacks, default_root_dir=folder)
    trainer.callbacks.insert(0, RankWatch(trainer.global_rank, trainer.local_rank))
    with SIGNALS:
        trainer.fit(model(), data(folder, 7))


def gone_on(folder: Path, world: int) -> dict[str, float]:
    """What is logged where `stopped`'s checkpoint goes on: a validation, no step before the epoch's end."""
    (checkpoint,) = folder.rglob("*.ckpt")
    trainer = quiet_trainer(world, max_epochs=1, num_sanity_val_steps=0)
    trainer.fit(model(), data(folder, 7), ckpt_path=checkpoint)
    return {name: float(value) for name, value in trainer.callback_metrics.items() if "assigner" in name}


def killed(trainer: Trainer, rank: int) -> None:
    """Kill this process, if it is a rank."""
    if trainer.global_step == 2 and trainer.global_rank == rank:
        os.kill(os.getpid(), signal.SIGKILL)


def train_with(fault: Callable[[Trainer], None], folder: Path, world: int) -> None:
    """Train without an end, as the command line would, and let a fault happen at a batch's start."""
    callback = LambdaCallback(on_train_batch_start=lambda trainer, *_: fault(trainer))
    trainer = quiet_trainer(world, max_epochs=-1, limit_val_batches=0, callbacks=[callback])
    trainer.callbacks.insert(0, RankWatch(trainer.global_rank, trainer.local_rank))
    trainer.fit(model(), data(folder, 2))


class Recorder(Callback):
    """Keeps what each validation logged."""

    def __init__(self) -> None:
        self.logged: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Trainer, pl_module: Detector) -> None:
        logged = {name: float(value) for name, value in trainer.callback_metrics.items() if "val/" in name}
        self.logged.append(dict(pl_module.last_scores) | logged)


def model() -> Detector:
    """A tiny network, the same on every rank and whenever it is asked for."""
    return deepcopy(build())


@cache
def build() -> Detector:
    """The same; called before ranks are forked, as it takes a second."""
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
    quiet = ("logger", "enable_progress_bar", "enable_model_summary")
    return Trainer(
        accelerator="cpu",
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        use_distributed_sampler=False,
        enable_checkpointing=any(isinstance(c, Checkpoint) for c in options.get("callbacks", [])),
        **dict.fromkeys(quiet, False),
        **options,
    )


def main(folder: Path, *calls: str) -> None:
    """Fork the ranks of one call after the other."""
    build()
    for call in calls:
        function, _, world = call.partition(":")
        with closing(socket()) as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        children = []
        for rank in range(int(world)):
            children.append(os.fork())
            if children[-1]:
                continue
            here = {"LOCAL_RANK": rank, "NODE_RANK": 0, "WORLD_SIZE": world, "MASTER_PORT": port}
            os.environ.update({name: str(value) for name, value in here.items()}, MASTER_ADDR="127.0.0.1")
            log = os.open(folder / f"{call}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            torch.set_num_threads(1)
            with user_errors():
                result = globals()[function](folder, int(world))
            (folder / f"{call}-{rank}.json").write_text(json.dumps(result))
            if distributed.is_initialized():
                distributed.destroy_process_group()
            os._exit(0)
        (folder / f"{call}.json").write_text(json.dumps(wait(children, time.monotonic() + LIMIT)))


def wait(children: list[int], deadline: float) -> list[int | None]:
    """Exit codes of processes, see `Ended`."""
    codes: dict[int, int | None] = {}
    while len(codes) < len(children):
        for child in set(children) - codes.keys():
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes[child] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                codes[child] = None
        time.sleep(0.02)
    return [codes[child] for child in children]


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
