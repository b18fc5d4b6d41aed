"""How often do intervals hold the truth? Simulated comparisons: python benchmarks/intervals.py.

The difference of two variants that are alike, for one seed and one image: a part of the seed, a part of the
image and a part of both together, all normal with mean 0. An honest 95 % interval holds 0 in 95 of 100
comparisons.

n seeds, I images, B resamples.
"""

import math
import sys
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/evaluation.py hides it
from evaluation.bootstrap import image_weights
from pinpoint.comparison.differences import Difference

IMAGES, RESAMPLES, TRIALS = 100, 200, 2000
NOISE = {"seeds": (1.0, 0.0), "both alike": (1.0, 1.0), "images": (0.0, 1.0)}
"""What the mean difference varies by: parts of seeds and of images in its standard error."""


def intervals(
    by_cell: np.ndarray, weights: np.ndarray, rng: np.random.Generator
) -> dict[str, tuple[float, float]]:
    """Intervals of the mean of differences (n, I)."""
    n = len(by_cell)
    per_seed, resampled = by_cell.mean(axis=1), by_cell @ weights.T / IMAGES
    error = per_seed.std(ddof=1) / math.sqrt(n)
    seeds = rng.integers(0, n, (RESAMPLES, n))
    both = np.take_along_axis(resampled.T, seeds, axis=1).mean(axis=1)
    reach = stdtrit(n - 1, 0.975) * error
    return {
        "bootstrap, seeds": tuple(np.percentile(per_seed[seeds].mean(axis=1), (2.5, 97.5))),
        "bootstrap, seeds x images": tuple(np.percentile(both, (2.5, 97.5))),
        "t, seeds": (per_seed.mean() - reach, per_seed.mean() + reach),
        "ours": Difference(per_seed, error, resampled.mean(axis=0).std(ddof=1), IMAGES).interval(),
    }


def main() -> None:
    """Print the share of intervals that hold 0, and their mean width in true standard errors."""
    rng, weights = np.random.default_rng(0), image_weights(IMAGES, RESAMPLES)
    print("| seeds | noise of | " + " | ".join(intervals(rng.normal(size=(2, IMAGES)), weights, rng)) + " |")
    print("|--|--|--|--|--|--|")
    for n in (2, 3, 5, 10):
        for name, (seed_part, image_part) in NOISE.items():
            held: dict[str, int] = {}
            width: dict[str, float] = {}
            for _ in range(TRIALS):
                seeds = rng.normal(size=(n, 1)) * seed_part * math.sqrt(n)
                images = rng.normal(size=(1, IMAGES)) * image_part * math.sqrt(IMAGES)
                for key, (low, high) in intervals(
                    seeds + images + rng.normal(size=(n, IMAGES)), weights, rng
                ).items():
                    held[key] = held.get(key, 0) + (low <= 0 <= high)
                    width[key] = width.get(key, 0) + (high - low) / math.hypot(seed_part, image_part)
            cells = (f"{100 * held[key] / TRIALS:.0f} % ({width[key] / TRIALS:.1f})" for key in held)
            print(f"| {n} | {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
