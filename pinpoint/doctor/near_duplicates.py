"""Images that show the same thing: found by a hash of their thumbnails, verified by aligning these.

N queries, M others, K hashed parts of a query.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from datamodules.progress import progress_bar
from pinpoint.doctor.pixels import THUMBNAIL

Thumbnail = NDArray[np.uint8]
Hashes = NDArray[np.uint64]

REACH = 14
"""Hashes of near duplicates differ in at most so many of their 64 bits."""

SHIFTS = (4, 0, 8)
"""Corners of the hashed parts of a query, pixels of the thumbnail; others are hashed at the first alone."""

CANDIDATES = 5
"""Number of nearest hashes that are verified for each image."""

ALIKE = 0.97
"""Correlation from which aligned thumbnails show the same thing; docs/doctor.md says how often that is so."""

PROMISING = 0.6
"""Correlation before the alignment below which it is not tried."""

MARGIN = 8
"""Largest shift that the alignment starts from, in pixels of the thumbnail."""

OVERLAP = 0.7
"""Smallest common part of two aligned thumbnails."""

CHUNK = 2**22
"""Pairs of hashes compared at a time."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two images that show the same thing.

    Attributes:
        query: index of the one.
        other: index of the other.
        correlation: of the aligned thumbnails, at least `ALIKE`.
    """

    query: int
    other: int
    correlation: float


def difference_hash(image: Thumbnail) -> int:
    """64 bits: whether brightness rises to the right, in each cell of a grid of 8 x 8.

    Source: Krawetz 2013, "Kind of Like That" (dHash).
    """
    small = cv2.resize(image, (9, 8), interpolation=cv2.INTER_AREA).astype(np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def find_pairs(queries: Sequence[Thumbnail], others: Sequence[Thumbnail] | None = None) -> list[Pair]:
    """The best match of each image that has one.

    Args:
        queries: (64, 64) uint8 thumbnails.
        others: thumbnails to be found; the earlier queries if not given.
    """
    earlier = others is None
    others = queries if others is None else others
    hashes, other_hashes = _hashes(queries, SHIFTS), _hashes(others, SHIFTS[:1])[:, 0]

    def best(query: int, candidates: NDArray[np.int64]) -> Pair | None:
        pairs = (Pair(query, int(i), aligned_correlation(queries[query], others[i])) for i in candidates)
        found = max(pairs, key=lambda pair: pair.correlation, default=None)
        return found if found and found.correlation >= ALIKE else None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        matches = pool.map(best, range(len(queries)), _candidates(hashes, other_hashes, earlier))
        done = progress_bar(matches, len(queries), "comparing images")
        return [match for match in done if match]


def connected(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Names that pairs connect, directly or through others: sorted groups of sorted names."""
    group: dict[str, set[str]] = {}
    for pair in pairs:
        # The smaller moves into the larger, so that a name moves only as often as its group doubles.
        smaller, larger = sorted((group.setdefault(name, {name}) for name in pair), key=len)
        if smaller is not larger:
            larger |= smaller
            group |= dict.fromkeys(smaller, larger)
    return sorted(map(sorted, {id(names): names for names in group.values()}.values()))


def aligned_correlation(first: Thumbnail, second: Thumbnail) -> float:
    """Highest correlation of two thumbnails that a shift, and then an affine map, can reach.

    Returns:
        A number in [-1, 1]; 0 where an image is of one colour, or the map is none that a camera makes.
    """
    if min(first.std(), second.std()) < 1:
        return 0.0
    centre = first[MARGIN:-MARGIN, MARGIN:-MARGIN]
    _, correlation, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(second, centre, cv2.TM_CCOEFF_NORMED))
    if correlation < PROMISING:
        return float(correlation)
    transform = np.array([[1, 0, x - MARGIN], [0, 1, y - MARGIN]], dtype=np.float32)
    stop = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 30, 1e-3)
    try:
        _, transform = cv2.findTransformECC(first, second, transform, cv2.MOTION_AFFINE, stop)  # type: ignore[assignment]
    except cv2.error:  # it does not converge
        return float(correlation)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    size = (first.shape[1], first.shape[0])
    moved = cv2.warpAffine(second, transform, size, flags=flags)
    common = cv2.warpAffine(np.full_like(second, 255), transform, size, flags=flags) == 255
    if common.mean() < OVERLAP or not 0.7 < np.linalg.det(transform[:, :2]) < 1.4:
        return float(correlation)
    return max(float(correlation), float(np.corrcoef(first[common], moved[common])[0, 1]))


def _hashes(images: Sequence[Thumbnail], shifts: Sequence[int]) -> Hashes:
    """Hash of each image's parts at all pairs of shifts: (N, shifts^2)."""
    side = THUMBNAIL - max(SHIFTS)
    hashes = [
        [difference_hash(image[y : y + side, x : x + side]) for y in shifts for x in shifts]
        for image in images
    ]
    return np.array(hashes, dtype=np.uint64).reshape(-1, len(shifts) ** 2)


def _candidates(hashes: Hashes, others: Hashes, earlier: bool) -> list[NDArray[np.int64]]:
    """Indices of the nearest hashes within reach of each query, at most `CANDIDATES`.

    Args:
        hashes: (N, K) hashes of the parts of the queries.
        others: (M,) hashes.
        earlier: whether the others are the queries themselves, of which only earlier ones count.
    """
    found: list[NDArray[np.int64]] = []
    rows = max(CHUNK // max(len(others), 1), 1)
    for start in range(0, len(hashes), rows):
        parts = hashes[start : start + rows].T
        distance = np.min([np.bitwise_count(part[:, None] ^ others[None]) for part in parts], axis=0)
        for query, row in enumerate(distance, start):
            allowed = np.flatnonzero(row[:query] <= REACH) if earlier else np.flatnonzero(row <= REACH)
            found.append(allowed[np.argsort(row[allowed], kind="stable")[:CANDIDATES]])
    return found
