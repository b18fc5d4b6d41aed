"""Large images in tiles: what merging keeps, what tiles gain, what they cost.

    python benchmarks/tiling.py borders [--sahi]
    python benchmarks/tiling.py scores --ckpt FILE --images DIR --annotations FILE [--ignore NAME] [--sahi]
    python benchmarks/tiling.py large --ckpt FILE [--side 20000]

`borders` merges what an ideal detector, whose edges are off, finds of random objects: lost ones, ones found
twice, and halves that score above their whole. `scores` pastes images of a COCO data set to canvases of
2560x2048, and compares the scores and the CPU time of looking at the canvas as a whole and in tiles. `large`
predicts a GeoTIFF, for memory and time, is killed on the way, and goes on.

With --sahi (pip install sahi, in an environment of its own) SAHI does the same in the same turns: its sliced
prediction, with the same network, letterbox and suppression behind its interface; greedy merging at an
intersection over the smaller area of 0.5, its own default.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/evaluation.py hides it

from torchvision.ops import box_iou

from datamodules.batch import ANY_CLASS, Annotations
from datamodules.images.decoding import read_image_file
from datamodules.images.windows import open_image
from detector import load
from detector.postprocess import Detections
from detector.tiling.merging import merge_views
from detector.tiling.views import Tiling, View
from evaluation.coco import SIDE_RANGES, CocoScores

CANVAS, TILE, OVERLAP = (2048, 2560), 640, 0.2
COUNTED = 5000
"""Most detections of a canvas."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("borders", "scores", "large"):
        command = commands.add_parser(name)
        if name != "borders":
            command.add_argument("--ckpt", required=True)
        if name != "large":
            command.add_argument("--sahi", action="store_true")
    scores, large = commands.choices["scores"], commands.choices["large"]
    scores.add_argument("--images", type=Path, required=True)
    scores.add_argument("--annotations", type=Path, required=True)
    scores.add_argument("--ignore", default="DontCare", help="category of unlabelled regions")
    scores.add_argument("--tile", type=int, default=TILE)
    scores.add_argument("--canvases", type=int, help="stop after so many")
    large.add_argument("--side", type=int, default=20_000)
    large.add_argument("--tile", type=int, default=TILE)
    large.add_argument("--worker", type=Path, nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    {"borders": borders, "scores": compare_scores, "large": predict_large}[options.command](options)


# Borders


SIZES = ((8, 16), (16, 32), (32, 96), (96, 400))


def borders(options: argparse.Namespace) -> None:
    """Print a row for each size of objects, noise of their edges, and way of merging."""
    print(f"{TILE} px, overlap {OVERLAP}, canvases of {CANVAS[1]}x{CANVAS[0]}; objects that a border cuts")
    header = f"{'side, px':<10}{'edges off':>10}{'merging':>10}{'objects':>9}{'lost':>7}"
    print(f"{header}{'extra/100':>11}{'halves/100':>12}")
    views = Tiling(TILE, OVERLAP).views(CANVAS, (512, 640))
    mergers: dict[str, Callable[[list[Detections]], Detections]] = {
        name: lambda found, name=name: merge_views(views, found, CANVAS, name)  # type: ignore[misc]
        for name in ("nmm", "nms", "wbf")
    }
    if options.sahi:
        from with_sahi import merge_as_sahi

        mergers["SAHI"] = lambda found: merge_as_sahi(found, CANVAS)
    for low, high in SIZES:
        for noise in (0.0, 0.03, 0.06):
            counts = {name: np.zeros(4) for name in mergers}
            for seed in range(20):
                rng = np.random.default_rng((seed, low))
                objects = draw_objects(rng, low, high)
                found, seen, cut = look_at(objects, views, rng, noise)
                for name, merge in mergers.items():
                    counts[name] += judge(objects, seen, cut, merge(found))
            for name, (number, lost, extra, halves) in counts.items():
                per_100 = f"{100 * extra / number:>11.1f}{100 * halves / number:>12.1f}"
                print(f"{f'{low}-{high}':<10}{noise:>10.0%}{name:>10}{number:>9.0f}{lost:>7.0f}{per_100}")


def draw_objects(rng: np.random.Generator, low: int, high: int) -> torch.Tensor:
    """Boxes of random shape that overlap by no more than IoU 0.3: (n, 4)."""
    wanted = min(400, int(0.15 * CANVAS[0] * CANVAS[1] / (low * high)))
    kept = torch.empty(0, 4)
    for _ in range(wanted):
        side = np.exp(rng.uniform(np.log(low), np.log(high))) * np.exp(rng.uniform(-0.4, 0.4, 2))
        corner = rng.uniform(0, np.array(CANVAS[::-1]) - side)
        box = torch.tensor([[*corner, *(corner + side)]], dtype=torch.float32)
        if not len(kept) or box_iou(box, kept).max() <= 0.3:
            kept = torch.cat((kept, box))
    return kept


def look_at(
    objects: torch.Tensor, views: Sequence[View], rng: np.random.Generator, noise: float
) -> tuple[list[Detections], torch.Tensor, torch.Tensor]:
    """What each view finds of objects of which it shows a third; which a view shows whole; which one cuts."""
    found, seen, cut = (
        [],
        torch.zeros(len(objects), dtype=torch.bool),
        torch.zeros(len(objects), dtype=torch.bool),
    )
    area = (objects[:, 2:] - objects[:, :2]).prod(1)
    for view in views:
        low, high = (
            torch.tensor(corner * 2, dtype=torch.float32) for corner in (view.window[:2], view.window[2:])
        )
        visible = objects.maximum(low).minimum(high)
        share = (visible[:, 2:] - visible[:, :2]).clamp(min=0).prod(1) / area
        seen |= share > 0.999
        cut |= (share > 0) & (share < 0.999)
        mine = share >= 1 / 3
        boxes, sides = visible[mine], (visible[mine, 2:] - visible[mine, :2]).repeat(1, 2)
        boxes = boxes + sides * torch.from_numpy(rng.uniform(-noise, noise, boxes.shape)).float()
        scores = torch.from_numpy(rng.uniform(0.5, 1, len(boxes))).float()
        order = scores.argsort(descending=True)
        boxes = boxes.maximum(low).minimum(high)
        found.append(Detections(boxes[order], scores[order], torch.zeros(len(boxes), dtype=torch.int64)))
    return found, seen, cut


def judge(objects: torch.Tensor, seen: torch.Tensor, cut: torch.Tensor, merged: Detections) -> np.ndarray:
    """Of the objects that a border cuts: their number, lost though a view saw them whole, extra, halves."""
    iou = box_iou(objects, merged.boxes)
    low = objects[:, None, :2].maximum(merged.boxes[:, :2])
    shared = (objects[:, None, 2:].minimum(merged.boxes[:, 2:]) - low).clamp(min=0).prod(2)
    area = (merged.boxes[:, 2:] - merged.boxes[:, :2]).prod(1)
    lies_on = (shared > 0.7 * area) & (iou == iou.max(0).values)  # each detection on one object
    extra = (lies_on.sum(1) - 1).clamp(min=0)
    first = torch.where(lies_on, merged.scores, -1).argmax(1)
    halves = lies_on.any(1) & (iou[torch.arange(len(objects)), first] < 0.5) & seen
    lost = seen & (iou.max(1).values < 0.5)
    return np.array([int(one[cut].sum()) for one in (torch.ones(len(cut)), lost, extra, halves)])


# Scores


@dataclass
class Paste:
    """A canvas (H, W, 3) RGB with the images of a data set, and their annotations moved with them."""

    pixels: np.ndarray
    annotations: Annotations


def paste(options: argparse.Namespace, names: Sequence[str]) -> Iterator[Paste]:
    """Canvases full of images of one size, in the order of the annotations, the last perhaps not full."""
    data = json.loads(options.annotations.read_text())
    category = {one["id"]: one["name"] for one in data["categories"]}
    rows: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in data["images"]}
    for row in data["annotations"]:
        rows[row["image_id"]].append(row)
    images = iter(data["images"])
    height, width = data["images"][0]["height"], data["images"][0]["width"]
    corners = [
        (x, y)
        for y in range(0, CANVAS[0] - height + 1, height)
        for x in range(0, CANVAS[1] - width + 1, width)
    ]
    while batch := list(islice(images, len(corners))):
        pixels = np.full((*CANVAS, 3), 127, np.uint8)
        boxes, labels, areas, ignored = [], [], [], []
        for (x, y), image in zip(corners, batch, strict=False):
            pixels[y : y + height, x : x + width] = read_image_file(str(options.images / image["file_name"]))
            for row in rows[image["id"]]:
                left, top, w, h = row["bbox"]
                box = [left + x, top + y, left + x + w, top + y + h]
                if category[row["category_id"]] == options.ignore or row.get("iscrowd"):
                    ignored.append(box)
                else:
                    boxes.append(box)
                    labels.append(names.index(category[row["category_id"]]))
                    areas.append(row.get("area") or w * h)
        yield Paste(
            pixels,
            Annotations(
                np.array(boxes, np.float32).reshape(-1, 4),
                np.array(labels, np.int64),
                np.array(areas, np.float32),
                np.array(ignored, np.float32).reshape(-1, 4),
                np.full(len(ignored), ANY_CLASS),
            ),
        )


def compare_scores(options: argparse.Namespace) -> None:
    """Print a row of scores and CPU seconds a canvas for each way of looking."""
    model = load(options.ckpt, device="cpu")
    names = model.facts.class_names
    ways: dict[str, Callable[[np.ndarray], Detections]] = {
        "whole": lambda pixels: model.predict(pixels, thresholds=0.0),
        **{
            f"tiles, {merge}": lambda pixels, merge=merge: model.predict(  # type: ignore[misc]
                pixels, thresholds=0.0, tile=options.tile, overlap=OVERLAP, merge=merge
            )
            for merge in ("nmm", "nms", "wbf")
        },
        "tiles and whole": lambda pixels: model.predict(
            pixels, thresholds=0.0, tile=options.tile, overlap=OVERLAP, whole=True
        ),
        "tiles, from 0.25": lambda pixels: model.predict(
            pixels, thresholds=0.25, tile=options.tile, overlap=OVERLAP
        ),
    }
    if options.sahi:
        from with_sahi import sahi_way

        ways["SAHI"] = sahi_way(model, 0.001, False, options.tile, OVERLAP)
        ways["SAHI, merging"] = sahi_way(model, 0.001, True, options.tile, OVERLAP)
        ways["SAHI, from 0.25"] = sahi_way(model, 0.25, True, options.tile, OVERLAP)
    scores = {name: CocoScores(names, COUNTED) for name in ways}
    seconds = {name: 0.0 for name in ways}
    for number, canvas in enumerate(islice(paste(options, names), options.canvases)):
        for name, look in ways.items():
            start = time.process_time()
            found = look(canvas.pixels)
            seconds[name] += time.process_time() - start
            best = Detections(found.boxes[:COUNTED], found.scores[:COUNTED], found.labels[:COUNTED])
            scores[name].update(number, best, canvas.annotations)
        print(f"canvas {number + 1}", file=sys.stderr)
    columns = ["AP", "AP50", *(f"AP_{name}" for name in ("0_8", "8_16", "16_32", "medium", "large"))]
    assert {column[3:] for column in columns[2:]} <= SIDE_RANGES.keys()
    print(f"{'':<18}" + "".join(f"{column:>10}" for column in columns) + f"{'CPU s':>8}")
    for name, metric in scores.items():
        values = metric.compute()
        print(
            f"{name:<18}"
            + "".join(f"{values[c]:>10.3f}" for c in columns)
            + f"{seconds[name] / (number + 1):>8.2f}"
        )
    if options.sahi:
        for ours, theirs in (
            ("tiles, nmm", "SAHI"),
            ("tiles, nmm", "SAHI, merging"),
            ("tiles, from 0.25", "SAHI, from 0.25"),
        ):
            print(f"CPU time of {ours!r} / {theirs!r}: {seconds[ours] / seconds[theirs]:.2f}")


# Large images


def predict_large(options: argparse.Namespace) -> None:
    """Print memory and seconds of a large GeoTIFF, and whether going on after a kill changes anything."""
    if options.worker:
        work(options, *options.worker)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_mosaic(folder / "large.tif", options.side)
        command = [sys.executable, __file__, "large", "--ckpt", options.ckpt, "--tile", str(options.tile)]
        command += ["--side", str(options.side), "--worker", str(folder / "large.tif")]
        print(
            subprocess.run(
                [*command, str(folder / "once.npy")], check=True, capture_output=True, text=True
            ).stdout
        )
        again = folder / "again.npy"
        killed = subprocess.Popen([*command, str(again)], stdout=subprocess.DEVNULL)
        while not again.is_file() or again.stat().st_size < (folder / "once.npy").stat().st_size / 3:
            time.sleep(0.1)
        killed.kill()
        killed.wait()
        rows = again.stat().st_size
        print(
            f"killed at {rows / (folder / 'once.npy').stat().st_size:.0%} of what it finds, and gone on with"
        )
        print(subprocess.run([*command, str(again)], check=True, capture_output=True, text=True).stdout)
        merged = [(folder / f"{stem}.merged.npy").read_bytes() for stem in ("once", "again")]
        print("the same detections" if merged[0] == merged[1] else "OTHER DETECTIONS")


def work(options: argparse.Namespace, image: Path, journal: Path) -> None:
    """Predict, and write what each view finds to a file; views that are there are not looked at again."""
    model = load(options.ckpt, device="cpu")
    model.predict(np.zeros((*model.facts.image_size, 3), np.uint8))  # buffers of the runtime
    before, start, cpu = memory(), time.perf_counter(), time.process_time()
    tiling, source = Tiling(options.tile, OVERLAP, whole=True), open_image(str(image))
    views = model.views(source.size, tiling)
    found = list(read_journal(journal)) if journal.is_file() else []
    done = len(found)
    with journal.open("ab") as file:
        for one in model.look((source, view) for view in views[done:]):
            found.append(one)
            rows = torch.cat((one.boxes, one.scores[:, None], one.labels[:, None]), 1).float().numpy()
            file.write(np.int64(len(rows)).tobytes() + rows.tobytes())
            file.flush()
    merged = model.merge(views, found, source.size, tiling)
    seconds, peak = time.perf_counter() - start, memory()
    np.save(journal.with_suffix(".merged.npy"), np.column_stack((merged.boxes, merged.scores, merged.labels)))
    print(
        f"{source.size[1]}x{source.size[0]} px, {len(views)} views, {done} of them done before: "
        f"{seconds:.0f} s, {time.process_time() - cpu:.0f} s of CPU, "
        f"{(peak - before) / 2**20:.0f} MiB above the model, {len(merged)} detections"
    )


def read_journal(path: Path) -> Iterator[Detections]:
    """What is complete of a file of `work`; the rest of it is cut off."""
    data, place = path.read_bytes(), 0
    while place + 8 <= len(data):
        length = int(np.frombuffer(data, np.int64, 1, place)[0])
        if place + 8 + length * 24 > len(data):
            break
        rows = torch.from_numpy(np.frombuffer(data, np.float32, length * 6, place + 8).reshape(-1, 6).copy())
        place += 8 + length * 24
        yield Detections(rows[:, :4], rows[:, 4], rows[:, 5].long())
    with path.open("r+b") as file:
        file.truncate(place)


def write_mosaic(path: Path, side: int) -> None:
    """A tiled GeoTIFF of plain rectangles on a textured ground."""
    import rasterio
    from rasterio.windows import Window

    rng = np.random.default_rng(0)
    profile = {"driver": "GTiff", "width": side, "height": side, "count": 3, "dtype": "uint8", "tiled": True}
    profile |= {"blockxsize": 512, "blockysize": 512, "compress": "deflate", "crs": "EPSG:32633"}
    with rasterio.open(path, "w", **profile, transform=rasterio.Affine(0.1, 0, 5e5, 0, -0.1, 5e6)) as file:
        for top in range(0, side, 512):
            rows = rng.integers(90, 130, (3, min(512, side - top), side), np.uint8)
            for x in rng.integers(0, side - 40, side // 40):
                y = int(rng.integers(0, 470))
                rows[:, y : y + int(rng.integers(8, 40)), x : x + int(rng.integers(8, 40))] = rng.integers(
                    0, 255, (3, 1, 1)
                )
            file.write(rows, window=Window(0, top, side, rows.shape[1]))


def memory() -> int:
    """Largest resident memory of this process so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
