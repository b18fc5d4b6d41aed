"""Is one variant of a training better than another, or is it noise? Paired differences with honest intervals.

A cell is one training: a variant and a seed. Cells of one seed share initial weights, data order and
augmentation, and all cells are scored on the same images, so differences are taken seed by seed and image by
image: what is common cancels.

What the interval of a difference covers. Training again with other seeds would give another difference, and
so would other images of the same kind. Both count:

- seeds: the n differences have standard deviation s, their mean the standard error s / sqrt(n);
- images: the standard deviation of the mean difference over bootstrap resamples of the images, the same
  resamples for every cell.

The squares add up, and the interval is mean +- t sqrt(seeds^2 + images^2), with Student's t at
Welch and Satterthwaite's degrees of freedom. Why not the percentiles of a bootstrap over seeds as well: three
seeds have ten different resamples, so their 2.5 % percentile is the smallest of the three differences, and
that "95 % interval" holds the truth 7 times in 10; t does so 19 times in 20, at the price of width (4.3
standard errors at n = 3 where seeds rule, 2.8 at n = 5). docs/decisions/comparison-intervals.md has the
trial. The interval assumes that differences between seeds are roughly normal, which three cannot show.

n seeds, B resamples of the images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]

CURVES = {"val/map": "AP", "val/AP50": "AP50", "val/AP_small": "AP small"}
"""Logged names of the training curves that a report shows, and their titles."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A finished training.

    Attributes:
        variant: name of what was varied.
        seed: of the training.
        scores: in [0, 1], NaN where there is no object; see `evaluation.coco.score_names`.
        resampled: (B,) scores of the resampled images, see `evaluation.bootstrap.resampled_scores`.
        images: number of images that were scored.
        image_set: the same for cells that were scored on the same ones.
        curves: steps and values by the name under which they were logged.
        seconds: time of the training, of its last attempt where it was interrupted.
        attempts: how often it was started.
    """

    variant: str
    seed: int
    scores: Mapping[str, float]
    resampled: Mapping[str, Floats]
    images: int
    image_set: str
    curves: Mapping[str, tuple[Floats, Floats]]
    seconds: float
    attempts: int


@dataclass(frozen=True, slots=True)
class Difference:
    """A variant's score less the baseline's.

    Attributes:
        per_seed: (n,) difference of each seed.
        seed_error: standard error of their mean by the choice of seeds; NaN for a single seed.
        image_error: standard error of their mean by the choice of images; NaN for a single image.
        images: number of images.
    """

    per_seed: Floats
    seed_error: float
    image_error: float
    images: int

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return float(self.per_seed.mean())

    @property
    def error(self) -> float:
        """Standard error by seeds and images."""
        return math.hypot(self.seed_error, self.image_error)

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the standard error. Source: Welch 1947, Satterthwaite 1946."""
        parts = self.seed_error**4 / (len(self.per_seed) - 1) + self.image_error**4 / (self.images - 1)
        return self.error**4 / parts

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Bounds that hold the true difference in a share `level` of comparisons.

        NaN for a single seed, or a single image.
        """
        if not self.error > 0:
            return self.mean + 0 * self.error, self.mean + 0 * self.error
        reach = float(stdtrit(self.degrees, (1 + level) / 2)) * self.error
        return self.mean - reach, self.mean + reach


def paired_difference(variant: Sequence[Cell], baseline: Sequence[Cell], score: str) -> Difference:
    """Compare the cells of two variants, seed by seed.

    Args:
        variant: cells of one variant.
        baseline: cells of the other; at least one seed in common.
        score: one of `evaluation.bootstrap.SCORE_NAMES`.
    """
    partners = {cell.seed: cell for cell in baseline}
    pairs = [(cell, partners[cell.seed]) for cell in variant if cell.seed in partners]
    per_seed = np.array([a.scores[score] - b.scores[score] for a, b in pairs])
    resampled = np.mean([a.resampled[score] - b.resampled[score] for a, b in pairs], axis=0)
    resampled, n, images = resampled[~np.isnan(resampled)], len(per_seed), pairs[0][0].images
    return Difference(
        per_seed=per_seed,
        seed_error=float(per_seed.std(ddof=1) / math.sqrt(n)) if n > 1 else math.nan,
        image_error=float(resampled.std(ddof=1)) if len(resampled) > 1 and images > 1 else math.nan,
        images=images,
    )


def verdict(difference: Difference, comparisons: int = 1) -> str:
    """Say in words whether a difference is beyond noise.

    Of k comparisons of equal things at 95 %, one in 20 looks like a difference, so beyond noise is what
    stays so at the level of 1 - 0.05 / k (Bonferroni).

    Args:
        difference: of a variant from the baseline.
        comparisons: k, number of variants that are compared with the baseline.
    """
    if math.isnan(difference.mean):
        return "not defined"
    if not difference.per_seed.any():
        return "identical"
    if len(difference.per_seed) < 2:
        return "one seed cannot tell"
    if difference.images < 2:
        return "one image cannot tell"
    word = "higher" if difference.mean > 0 else "lower"
    if _excludes_zero(difference.interval(1 - 0.05 / comparisons)):
        return f"{word}, beyond noise"
    if _excludes_zero(difference.interval()):
        return f"{word}, but one of {comparisons} comparisons would be by chance"
    return "within noise"


def _excludes_zero(interval: tuple[float, float]) -> bool:
    low, high = interval
    return low > 0 or high < 0
