"""Draws the pictures of docs/losses.md: python docs/draw_losses.py [FOLDER].

n boxes.
"""

import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import get_args

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image
from torch import Tensor

from losses import size_aware
from losses.boxes import area
from losses.named import BoxLossName, named_box_loss
from losses.regression import BoxLoss, SimilarityLoss
from losses.similarity import ciou, iou

ROOT = Path(__file__).resolve().parents[1]
SIDE = 16.0
"""Side of the target in pixels, where it is not what changes."""
GROUPS = {
    "overlap alone": ["iou", "dice", "alpha_iou", "inner_iou", "focaler_iou"],
    "overlap and geometry": ["iou", "giou", "diou", "ciou", "eiou", "siou", "shape_iou", "mpdiou"],
    "with a focus": ["iou", "wise_iou", "wise_iou_v2", "wise_iou_v3", "piou", "piou2", "sdiou"],
    "Gaussians, mix, coordinates": ["iou", "nwd", "gcd", "kld", "ciou_nwd", "smooth_l1"],
}
"""Box losses by what they measure; IoU is in every group for comparison."""
RUNNING_MEAN = 0.3
"""Mean of 1 - IoU that Wise-IoU v2 and v3 are drawn at: that of a training under way."""

CLASSES: dict[str, type[BoxLoss]] = {
    "inverse_sqrt": size_aware.InverseSqrtLoss,
    "focal_log": size_aware.FocalLogLoss,
    "dynamic": size_aware.DynamicLoss,
    "normalized_sqrt": size_aware.NormalizedSqrtLoss,
    "hybrid": size_aware.HybridLoss,
    "hybrid_scaled": size_aware.HybridLoss,
}
COLOURS = {name: f"C{k}" for k, name in enumerate(CLASSES)}

GROUPED = {name for group in GROUPS.values() for name in group} | CLASSES.keys()
if others := sorted(set(get_args(BoxLossName)) - GROUPED):
    GROUPS["others"] = ["iou", *others]


def square(x: Tensor, y: Tensor, side: Tensor) -> Tensor:
    """Squares (n, 4) xyxy by their upper left corners and sides (n,)."""
    return torch.stack((x, y, x + side, y + side), -1)


def box_loss(name: BoxLossName) -> BoxLoss:
    """A box loss with its published constants, as in a training under way."""
    loss = named_box_loss(name)
    if hasattr(loss, "running_mean"):
        loss.running_mean.mean.fill_(RUNNING_MEAN)
    return loss.double().eval()


def value_and_slope(
    loss: BoxLoss, target: Tensor, move: Callable[[Tensor], Tensor], amount: Tensor
) -> tuple[Tensor, Tensor]:
    """Loss of each box alone and its derivative by the amount of its error.

    Args:
        loss: of boxes.
        target: (n, 4) xyxy pixels.
        move: amounts (n,) to predictions (n, 4).
        amount: (n,) of the error.

    Returns:
        Value (n,) and derivative (n,).
    """
    amount = amount.clone().requires_grad_()
    pred, one = move(amount), target.new_ones(1)
    values = torch.stack([loss(pred[k, None], target[k, None], one, one[0])[0] for k in range(len(target))])
    return values.detach(), torch.autograd.grad(values.sum(), amount)[0]


Curve = tuple[int, Tensor, Tensor, str]
"""Row of the picture, abscissa, ordinate and style of a line."""


def draw_groups(
    path: Path,
    titles: tuple[str, str],
    xlabel: str,
    curves: Callable[[BoxLoss], list[Curve]],
    decorate: Callable[[Axes, int], None],
) -> None:
    """A column a group of losses, two rows.

    Args:
        path: of the picture.
        titles: of the rows.
        xlabel: title of the abscissa.
        curves: lines of a loss.
        decorate: sets the scales of an axis, given its row.
    """
    figure = Figure(figsize=(14, 6.4), layout="constrained")
    panels = figure.subplots(2, len(GROUPS), sharex=True)
    for column, (group, names) in enumerate(GROUPS.items()):
        for k, name in enumerate(names):
            for row, x, y, style in curves(box_loss(name)):
                # Narrower and narrower, so that lines that coincide show.
                look = {"color": f"C{k - 1}" if k else "0.6", "linewidth": 4.5 - 0.5 * k}
                panels[row, column].plot(x, y, style, label=name if style == "-" else None, **look)
        for row, title in enumerate(titles):
            decorate(panels[row, column], row)
            panels[row, column].tick_params(labelsize=8)
            if column == 0:
                panels[row, column].set_ylabel(title, fontsize=9)
        panels[0, column].set_title(group, fontsize=10)
        panels[0, column].legend(fontsize=7)
    figure.supxlabel(xlabel, fontsize=9)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a picture with few colours, a third of the size."""
    content = BytesIO()
    figure.savefig(content, dpi=80)
    Image.open(content).convert("RGB").quantize(128).save(path, optimize=True)


def draw_shift(folder: Path) -> None:
    """Loss and gradient against the shift of the centre."""
    shift = torch.linspace(0.05, 40, 200, dtype=torch.float64)
    zero = torch.zeros_like(shift)
    target = square(zero, zero, zero + SIDE)

    def curves(loss: BoxLoss) -> list[Curve]:
        both = value_and_slope(loss, target, lambda x: square(x, zero, zero + SIDE), shift)
        return [(row, shift, both[row], "-") for row in (0, 1)]

    def decorate(panel: Axes, row: int) -> None:
        panel.axvline(SIDE, color="0.7", linewidth=1, linestyle=":")
        panel.set_ylim((-0.05, 2.2) if row == 0 else (-0.02, 0.2))

    titles = "loss", "gradient, per pixel of shift"
    xlabel = f"shift of the centre along x, pixels; target of {SIDE:.0f} px, disjoint from the dotted line on"
    draw_groups(folder / "losses-shift.png", titles, xlabel, curves, decorate)


def draw_iou(folder: Path) -> None:
    """Loss and gradient against the IoU of concentric boxes, too large and too small."""
    overlap = torch.linspace(0.04, 0.995, 150, dtype=torch.float64)
    zero = torch.zeros_like(overlap)
    target = square(zero, zero, zero + SIDE)

    def curves(loss: BoxLoss) -> list[Curve]:
        found = []
        for side, style in ((SIDE / overlap.sqrt(), "-"), (SIDE * overlap.sqrt(), ":")):
            value, slope = value_and_slope(
                loss, target, lambda s: square((SIDE - s) / 2, (SIDE - s) / 2, s), side
            )
            found += [(0, overlap, value, style), (1, overlap, slope.abs(), style)]
        return found

    def decorate(panel: Axes, row: int) -> None:
        panel.set_ylim((-0.05, 2.2) if row == 0 else (-0.01, 0.25))

    titles = "loss", "|gradient|, per pixel of side"
    xlabel = f"IoU of concentric squares; target of {SIDE:.0f} px, too large (line) or too small (dotted)"
    draw_groups(folder / "losses-iou.png", titles, xlabel, curves, decorate)


def draw_side(folder: Path) -> None:
    """Loss of an error of two pixels, and gradient of an error in proportion, against the side."""
    side = torch.logspace(1, 7, 100, base=2, dtype=torch.float64)
    zero = torch.zeros_like(side)
    target = square(zero, zero, side)

    def curves(loss: BoxLoss) -> list[Curve]:
        value, _ = value_and_slope(loss, target, lambda x: square(x, zero, side), zero + 2)
        _, slope = value_and_slope(loss, target, lambda x: square(x, zero, side), side / 4)
        return [(0, side, value, "-"), (1, side, slope, "-")]

    def decorate(panel: Axes, row: int) -> None:
        panel.set_xscale("log", base=2)
        if row:
            panel.set_yscale("log")
            panel.set_ylim(2e-3, 1)

    titles = "loss of a shift by 2 px", "gradient at a shift by a\nquarter of the side, per pixel"
    xlabel = "side of target and prediction, pixels"
    draw_groups(folder / "losses-side.png", titles, xlabel, curves, decorate)


# The six size-aware losses.


def as_written(name: str, pred: Tensor, target: Tensor, weight: Tensor, stride: float = 8.0) -> Tensor:
    """A size-aware loss as the notebook has it: costs (n, 1) times areas (n,) in grid cells make (n, n)."""
    c = 1 - ciou(pred, target)[:, None]
    cells = area(target / stride).clamp(min=1)
    w = weight[:, None]
    if name == "inverse_sqrt":
        return (w * c * (0.5 / cells.sqrt())).sum() / weight.sum()
    if name == "focal_log":
        return (w * c**2 * (0.5 / cells.log1p())).sum() / weight.sum()
    if name == "dynamic":
        gamma = 0.5 + c.mean().detach()
        return (w * c**2 * (gamma / cells.log1p()) * c**2 / (c**2 + 0.5)).sum() / weight.sum()
    if name == "normalized_sqrt":
        return (c**1.5 * c * (cells.mean() / cells).sqrt()).sum() / (c**1.5).sum()
    hybrid = (c * c.detach() ** 1.5 * (0.3 / cells.sqrt())).sum() / len(c)
    return hybrid / 99 if name == "hybrid_scaled" else hybrid


def relative_gradient(loss: Tensor, plain: Tensor, pred: Tensor) -> Tensor:
    """How many times the plain loss's gradient each box has: (n,); negative if it is pushed the other way."""
    g, g0 = (torch.autograd.grad(value, pred, retain_graph=True)[0] for value in (loss, plain))
    return (g * g0).sum(-1) / g0.square().sum(-1)


def draw_size_aware(folder: Path) -> None:
    """Gradient of each box relative to plain CIoU's, by its side and by its IoU, in three forms."""
    n = 64
    side = torch.logspace(2, 7, n, base=2, dtype=torch.float64)
    zero, ones = torch.zeros_like(side), torch.ones_like(side)
    by_side = square(zero, zero, side), square(side / 4, zero, side)
    share = torch.linspace(0.02, 0.8, n, dtype=torch.float64)
    by_iou = square(zero, zero, ones * SIDE), square(share * SIDE, zero, ones * SIDE)
    abscissa = (side, iou(*by_iou))

    figure = Figure(figsize=(13, 7.2), layout="constrained")
    panels = figure.subplots(2, 3, sharex="row", sharey="row")
    for row, (target, boxes) in enumerate((by_side, by_iou)):
        pred = boxes.clone().requires_grad_()
        plain, _ = SimilarityLoss("ciou")(pred, target, ones, ones.sum())
        for column, form in enumerate(("as written", "intended, per box", "calibrated")):
            panel = panels[row, column]
            for name, cls in CLASSES.items():
                if form == "as written":
                    loss = as_written(name, pred, target, ones)
                else:
                    loss, _ = cls(calibrated=form == "calibrated")(pred, target, ones, ones.sum())
                if form.startswith("intended") and name == "hybrid_scaled":
                    loss = loss / 99
                style = ":" if name == "hybrid_scaled" else "-"
                y = relative_gradient(loss, plain, pred)
                panel.plot(abscissa[row], y, style, color=COLOURS[name], label=name, linewidth=1.8)
            panel.axhline(1, color="0.6", linewidth=1)
            panel.tick_params(labelsize=8)
            if row == 0:
                panel.set_yscale("log")
                panel.set_title(form, fontsize=10)
                panel.set_xscale("log", base=2)
                panel.set_xlabel("side of the box, pixels; IoU 0.6 for all", fontsize=9)
            else:
                panel.set_yscale("symlog", linthresh=1e-2)
                panel.set_ylim(-100, 300)
                panel.set_xlabel("IoU of the box; 16 px for all", fontsize=9)
        panels[row, 0].set_ylabel("gradient, times that of plain CIoU", fontsize=9)
    panels[0, 2].legend(fontsize=7, loc="lower left")
    save(figure, folder / "losses-size-aware.png")


def draw_broadcasting(folder: Path) -> None:
    """The product that was meant, the product that was made, and what that does."""
    figure = Figure(figsize=(14, 4), layout="constrained")
    matrix, growth, gradient = figure.subplots(1, 3)

    n = 8
    side = torch.logspace(2, 6, n, base=2, dtype=torch.float64)
    zero, ones = torch.zeros_like(side), torch.ones_like(side)
    target = square(zero, zero, side)
    pred = square(side * torch.linspace(0.35, 0.1, n, dtype=torch.float64), zero, side).requires_grad_()
    cost, factor = (1 - ciou(pred, target)).detach(), area(target).rsqrt()
    matrix.imshow((cost[:, None] * factor).log(), cmap="Blues")
    for k in range(n):
        matrix.add_patch(Rectangle((k - 0.5, k - 0.5), 1, 1, fill=False, edgecolor="red", linewidth=2))
    matrix.set_xticks(range(n), [f"{value:.0f}" for value in side], fontsize=8)
    matrix.set_yticks(range(n), [f"{value:.0f}" for value in side], fontsize=8)
    matrix.set_xlabel("side that gives the size factor, px", fontsize=9)
    matrix.set_ylabel("side of the box that gives the loss, px", fontsize=9)
    matrix.set_title("(n, 1) times (n,): n² products summed;\nred: the n that were meant", fontsize=10)

    counts = torch.arange(1, 65, 3)
    for form, style in (("as written", "C3"), ("per box", "C0")):
        losses = []
        for copies in counts.tolist():
            p, t, w = (x.detach().repeat(copies, *[1] * (x.ndim - 1)) for x in (pred, target, ones))
            if form == "as written":
                losses.append(as_written("inverse_sqrt", p, t, w, stride=1.0))
            else:
                losses.append(size_aware.InverseSqrtLoss(calibrated=False)(p, t, w, w.sum())[0])
        growth.plot(counts * n, losses, style, label=form)
    growth.set_xlabel("positives in the batch, all copies of the same 8", fontsize=9)
    growth.set_title("loss of inverse_sqrt", fontsize=10)
    growth.legend(fontsize=8)

    side = torch.logspace(2, 6, 40, base=2, dtype=torch.float64)
    zero, ones = torch.zeros_like(side), torch.ones_like(side)
    target, pred = square(zero, zero, side), square(side / 4, zero, side).requires_grad_()
    plain, _ = SimilarityLoss("ciou")(pred, target, ones, ones.sum())
    per_box, _ = size_aware.InverseSqrtLoss(calibrated=False)(pred, target, ones, ones.sum())
    written = as_written("inverse_sqrt", pred, target, ones, stride=1.0)
    for loss, style, label in ((written, "C3", "as written"), (per_box, "C0", "per box")):
        gradient.plot(side, relative_gradient(loss, plain, pred), style, label=label)
    gradient.set_xscale("log", base=2)
    gradient.set_yscale("log")
    gradient.set_xlabel("side of the box, px", fontsize=9)
    gradient.set_title("gradient of each of 40 boxes, times plain CIoU's", fontsize=10)
    gradient.legend(fontsize=8)
    save(figure, folder / "losses-broadcasting.png")


def main() -> None:
    """Draw all pictures into the folder that the command line names, docs/images if none."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "images"
    folder.mkdir(parents=True, exist_ok=True)
    for draw in (draw_shift, draw_iou, draw_side, draw_size_aware, draw_broadcasting):
        draw(folder)


if __name__ == "__main__":
    main()
