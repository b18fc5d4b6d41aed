"""Time of a training step: forward, assignment and loss, backward, clipping, optimizer and weight average.

    python benchmarks/train_step.py                                      # ours alone
    python -m venv ELSEWHERE && ELSEWHERE/bin/pip install ultralytics -r constraints.txt
    ELSEWHERE/bin/python benchmarks/train_step.py --peers yolo11n yolo26n
    ELSEWHERE/bin/python benchmarks/train_step.py --peers yolo11n yolo26n --device cuda --bf16    # or with
                                                                              # --compile, or --graphs

All take steps in turn, in one process, on the same random images and objects; the order turns round every
round. A ratio is the median over rounds of theirs / ours, so a busy neighbour, who slows both, cancels. Each
is trained as its own trainer does it: ours in channels_last layout everywhere, theirs on GPUs alone; ours
with MuonAdamW, theirs with AdamW, both with gradients clipped at 10. On a GPU a step is timed as a whole, and
its parts in steps of their own, because waiting at the end of each costs what they overlap. `--cpu-seconds`
times the process's own CPU time, which a busy machine disturbs less than the clock. On a CPU malloc keeps
freed memory, as it does in our trainings; it does so for all sides, which share a process.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Protocol

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import datamodules  # noqa: F401  # sets how torch's threads wait and its memory comes, before torch

# isort: split
import torch
from torch import nn

from datamodules.freed_memory import keep_freed_memory
from detector.assigner import TaskAlignedAssigner, assignment_statistics, points_in_boxes
from detector.averaging import move, pair
from detector.graphs import Replayed
from detector.networks.base import DetectionNetwork
from detector.networks.network import Network
from detector.networks.yolov9.network import YOLOv9
from detector.parameters import parameter_groups
from detector.training.muon import MuonAdamW
from losses.detection import DetectionLoss

PARTS = ("forward", "loss", "backward", "rest")
CLASSES = 10


class Batch:
    """Random images with objects of 8 to 64 px at random places.

    Attributes:
        images: (B, 3, size, size) float in [0, 1].
        boxes: (G, 4) xyxy pixels.
        labels: (G,) int64.
        image_index: (G,) int64.
        host: boxes and image_index on the CPU, as a loader has them.
    """

    def __init__(self, images: int, size: int, objects: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(images, 3, size, size, generator=generator).to(device)
        sides = 8 * 8 ** torch.rand(images * objects, 2, generator=generator)
        corner = torch.rand(images * objects, 2, generator=generator) * (size - sides)
        boxes, index = torch.cat((corner, corner + sides), 1), torch.arange(images).repeat_interleave(objects)
        self.host = boxes, index
        self.boxes, self.image_index = boxes.to(device), index.to(device)
        self.labels = torch.randint(CLASSES, (images * objects,), generator=generator).to(device)


class Side(Protocol):
    """A network in training."""

    def parts(self, batch: Batch) -> Sequence[Callable[[], None]]:
        """The four parts of a step, to be called in order."""


class Pinpoint:
    """A network of ours, that of `configs/default.yaml` if not told, with the default assigner and loss."""

    def __init__(
        self,
        strides: list[int],
        size: int,
        device: torch.device,
        compiled: bool,
        graphs: bool,
        network: DetectionNetwork | None = None,
    ) -> None:
        network = network or Network(CLASSES, (size, size), channels=80, strides=strides)
        self.network = network.to(device)
        self.pairs = pair(copy.deepcopy(self.network), self.network)
        if compiled:
            self.network.compile(dynamic=True)
        self.run = Replayed(self.network) if graphs else self.network
        self.criterion, self.assigner = DetectionLoss("ciou").to(device), TaskAlignedAssigner()
        self.optimizer = MuonAdamW(parameter_groups(self.network), lr=1e-4, weight_decay=0.05)
        for group in self.optimizer.param_groups:
            group["fused"] = True

    def parts(self, batch: Batch) -> Sequence[Callable[[], None]]:
        """Forward, loss, backward, rest."""
        return lambda: self._forward(batch), lambda: self._loss(batch), self._backward, self._rest

    def _forward(self, batch: Batch) -> None:
        self.predictions = self.run(batch.images)

    def _loss(self, batch: Batch) -> None:
        said, objects = self.predictions, (batch.boxes, batch.labels, batch.image_index)
        with torch.no_grad():
            assignment = self.assigner(
                said.logits.float().sigmoid(),
                said.boxes(),
                said.points,
                said.strides,
                *objects,
                levels=said.levels,
                host=batch.host,
            )
        nothing = batch.boxes.new_empty(0, 4), batch.image_index[:0]
        ignored = points_in_boxes(*nothing, said.points, said.strides)
        self.total = self.criterion(said, assignment, batch.boxes, batch.labels, ignored)["loss"]
        assignment_statistics(assignment, batch.boxes)

    def _backward(self) -> None:
        self.total.backward()

    def _rest(self) -> None:
        finish(self.network, self.optimizer)
        for averages, currents in self.pairs:
            move(averages, currents, 2e-4)


class Ultralytics:
    """One of their models, by the name of its YAML file, with their loss and their weight average."""

    def __init__(self, name: str, device: torch.device, compiled: bool) -> None:
        # By name: nothing of Pinpoint depends on it, and checks of our imports need not know it.
        tasks = import_module("ultralytics.nn.tasks")
        self.network = tasks.DetectionModel(f"{name}.yaml", nc=CLASSES, verbose=False).to(device).train()
        if device.type == "cuda":
            self.network.to(memory_format=torch.channels_last)
        self.network.args = import_module("ultralytics.cfg").get_cfg()
        self.criterion = self.network.init_criterion()
        if compiled:
            self.network.compile(dynamic=True)
        self.average = import_module("ultralytics.utils.torch_utils").ModelEMA(self.network)
        build = import_module("ultralytics.engine.trainer").BaseTrainer.build_optimizer
        self.optimizer = build(SimpleNamespace(), self.network, name="AdamW", lr=1e-4, decay=5e-4)

    def parts(self, batch: Batch) -> Sequence[Callable[[], None]]:
        """Forward, loss, backward, rest."""
        return lambda: self._forward(batch), lambda: self._loss(batch), self._backward, self._rest

    def _forward(self, batch: Batch) -> None:
        self.predictions = self.network(batch.images)

    def _loss(self, batch: Batch) -> None:
        low, high = batch.boxes.chunk(2, dim=1)
        objects = {
            "batch_idx": batch.image_index.float(),
            "cls": batch.labels[:, None].float(),
            "bboxes": torch.cat(((low + high) / 2, high - low), 1) / batch.images.shape[-1],
        }
        self.total = self.criterion(self.predictions, objects)[0].sum()

    def _backward(self) -> None:
        self.total.backward()

    def _rest(self) -> None:
        finish(self.network, self.optimizer)
        self.average.update(self.network)


def finish(network: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Clip as both trainers do, step and clear."""
    nn.utils.clip_grad_norm_(network.parameters(), 10.0)
    optimizer.step()
    optimizer.zero_grad()


@dataclass(frozen=True)
class Conditions:
    """How steps are run and timed.

    Attributes:
        clock: seconds.
        wait: ends when the device has done all its work.
        bf16: autocast to bfloat16.
    """

    clock: Callable[[], float]
    wait: Callable[[], None]
    bf16: bool


def step(side: Side, batch: Batch, how: Conditions, whole: bool) -> list[float]:
    """Milliseconds of one step's parts, or of the whole step."""
    marks = [how.clock()]
    for number, part in enumerate(side.parts(batch)):
        # Backward and what follows run outside of autocast, as in both trainers.
        with torch.autocast(batch.images.device.type, torch.bfloat16, enabled=how.bf16 and number < 2):
            part()
        if not whole:
            how.wait()
            marks.append(how.clock())
    if whole:
        how.wait()
        marks.append(how.clock())
    return [1e3 * (after - before) for before, after in pairwise(marks)]


def peak_memory(side: Side, batch: Batch, how: Conditions) -> float:
    """Gigabytes that a step allocates at most beyond what is there before it; GPUs only."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step(side, batch, how, whole=True)
    return (torch.cuda.max_memory_allocated() - before) / 2**30


def median(values: Iterable[float]) -> float:
    return statistics.median(list(values))


def main() -> None:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("--peers", nargs="*", default=[], help="Ultralytics' models, such as yolo11n yolo26n yolov8-p2")
    add("--yolov9", nargs="*", default=[], help="sizes of ours that are trained as well: t s m c")
    add("--size", type=int, default=320, help="side of the images, pixels")
    add("--batch", type=int, default=16, help="images a batch")
    add("--objects", type=int, default=25, help="objects an image")
    add("--strides", type=int, nargs="+", default=[8, 16, 32], help="levels of our network")
    add("--device", type=torch.device, default=torch.device("cpu"))
    add("--bf16", action="store_true", help="autocast to bfloat16")
    add("--compile", action="store_true", help="compile every network")
    add("--graphs", action="store_true", help="run our network as CUDA graphs, theirs as without")
    add("--cpu-seconds", action="store_true", help="time by the CPU seconds of the process")
    add("--rounds", type=int, default=15, help="rounds that are timed")
    add("--threads", type=int, default=torch.get_num_threads(), help="of the CPU")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    cuda = args.device.type == "cuda"
    if not cuda:
        keep_freed_memory()
    how = Conditions(
        clock=time.process_time if args.cpu_seconds else time.perf_counter,
        wait=torch.cuda.synchronize if cuda else lambda: None,
        bf16=args.bf16,
    )

    batch = Batch(args.batch, args.size, args.objects, args.device)
    sides: dict[str, Side] = {
        "pinpoint": Pinpoint(args.strides, args.size, args.device, args.compile, args.graphs)
    }
    for one in args.yolov9:
        other = YOLOv9(CLASSES, (args.size, args.size), one, args.strides)
        how_trained = args.strides, args.size, args.device, args.compile, args.graphs
        sides[f"our YOLOv9-{one}"] = Pinpoint(*how_trained, other)
    sides |= {name: Ultralytics(name, args.device, args.compile) for name in args.peers}
    for name, side in sides.items():
        start = time.perf_counter()
        step(side, batch, how, whole=True)
        print(f"{name}: first step {time.perf_counter() - start:.1f} s", file=sys.stderr)
        step(side, batch, how, whole=True)

    wholes: dict[str, list[float]] = {name: [] for name in sides}
    parts: dict[str, list[list[float]]] = {name: [] for name in sides}
    order = list(sides)
    for _ in range(args.rounds):
        for name in order:
            parts[name].append(step(sides[name], batch, how, whole=False))
            wholes[name] += step(sides[name], batch, how, whole=True) if cuda else [sum(parts[name][-1])]
        order.append(order.pop(0))

    where = torch.cuda.get_device_name() if cuda else f"CPU, {args.threads} threads"
    mode = ("bfloat16" if args.bf16 else "float32") + (", compiled" if args.compile else "")
    mode += ", ours as CUDA graphs" if args.graphs else ""
    unit = "CPU ms" if args.cpu_seconds else "ms"
    print(f"torch {torch.__version__}, {where}, {mode}; {args.batch} images of {args.size} px,")
    print(f"{args.objects} objects each, strides {args.strides}; medians of {args.rounds} rounds, {unit}\n")
    print(f"| | step | this / ours | {' | '.join(PARTS)} |" + (" peak GB |" if cuda else ""))
    print("|---" * (7 + cuda) + "|")
    for name, side in sides.items():
        ratio = median(theirs / ours for theirs, ours in zip(wholes[name], wholes["pinpoint"], strict=True))
        columns = [f"{median(wholes[name]):.0f}", f"{ratio:.2f}"]
        columns += [f"{median(one):.0f}" for one in zip(*parts[name], strict=True)]
        columns += [f"{peak_memory(side, batch, how):.2f}"] if cuda else []
        print(f"| {name} | {' | '.join(columns)} |")


if __name__ == "__main__":
    main()
