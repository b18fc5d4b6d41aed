"""Intervals against tables, hand-made differences and simulated comparisons; the report's files."""

import csv
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import stdtrit
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from evaluation.bootstrap import SCORE_NAMES
from pinpoint.comparison.differences import (
    CURVES,
    Cell,
    Difference,
    paired_difference,
    verdict,
)
from pinpoint.comparison.report import write_report

STEPS = np.array([10.0, 20.0])


def cell(variant, seed, ap, noise=0.0, images=50, image_set="a"):
    """A cell whose scores are all `ap`, except for large objects, of which there are none."""
    spread = noise * np.random.default_rng(seed).normal(size=200)
    scores = {name: math.nan if name == "AP_large" else ap for name in SCORE_NAMES}
    resampled = {name: scores[name] + spread for name in SCORE_NAMES}
    curves = {name: (STEPS, np.array([ap / 2, ap])) for name in CURVES}
    return Cell(variant, seed, scores, resampled, images, image_set, curves, seconds=60.0, attempts=1)


def test_differences_are_taken_seed_by_seed():
    # Seeds 1 and 2 are common; the order of the cells and the other seeds do not matter.
    variant = [cell("b", 2, 0.5), cell("b", 1, 0.3), cell("b", 9, 0.9)]
    baseline = [cell("a", 0, 0.1), cell("a", 1, 0.2), cell("a", 2, 0.2)]
    difference = paired_difference(variant, baseline, "AP")
    np.testing.assert_allclose(difference.per_seed, [0.3, 0.1])
    assert difference.mean == pytest.approx(0.2)
    # Standard deviation 0.1 sqrt 2, so the standard error of two is 0.1; the images change nothing here.
    assert difference.seed_error == pytest.approx(0.1)
    assert difference.image_error == pytest.approx(0, abs=1e-12)
    # One degree of freedom: 12.7 standard errors.
    assert difference.degrees == pytest.approx(1)
    assert difference.interval() == pytest.approx((0.2 - 1.27062, 0.2 + 1.27062), abs=1e-4)


def test_what_images_do_to_both_variants_cancels():
    variant, baseline = [cell("b", 0, 0.3, noise=0.1)], [cell("a", 0, 0.2, noise=0.1)]
    assert paired_difference(variant, baseline, "AP").image_error == pytest.approx(0, abs=1e-12)
    baseline = [cell("a", 0, 0.2)]
    assert paired_difference(variant, baseline, "AP").image_error == pytest.approx(0.1, rel=0.15)


def test_errors_of_seeds_and_images_add_up():
    # 3 and 4 make 5. Degrees of freedom: 5^4 / (3^4 / 2 + 4^4 / 100) = 625 / 43.06.
    difference = Difference(np.array([1.0, 2.0, 3.0]), seed_error=3.0, image_error=4.0, images=101)
    assert difference.error == 5
    assert difference.degrees == pytest.approx(625 / 43.06)
    low, high = difference.interval()
    assert (low + high) / 2 == pytest.approx(2)
    assert high - 2 == pytest.approx(5 * stdtrit(625 / 43.06, 0.975))


def test_the_interval_holds_the_truth_where_a_bootstrap_of_three_seeds_does_not():
    # Two equal variants, three seeds: each difference has a part of its seed and a part of the images.
    rng = np.random.default_rng(0)
    for seed_sd, image_sd in ((1, 0), (1, 0.6), (0.3, 1)):
        held = held_by_percentiles = 0
        for _ in range(1000):
            by_image = rng.normal(0, 1, 100) * image_sd * 10
            per_seed = rng.normal(0, seed_sd, 3) + by_image.mean()
            resamples = by_image[rng.integers(0, 100, (200, 100))].mean(axis=1)
            difference = Difference(per_seed, per_seed.std(ddof=1) / math.sqrt(3), resamples.std(ddof=1), 100)
            low, high = difference.interval()
            held += low <= 0 <= high
            held_by_percentiles += per_seed.min() <= 0 <= per_seed.max()
        assert 925 <= held <= 980  # 1000 trials at 95 %: 950 +- 7
        assert held_by_percentiles < 800


def test_verdicts():
    def given(differences, image_error=0.0):
        values = np.array(differences)
        error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
        return Difference(values, error, image_error, images=100)

    assert verdict(given([0.1, 0.11, 0.09])) == "higher, beyond noise"
    assert verdict(given([-0.1, -0.11, -0.09])) == "lower, beyond noise"
    assert verdict(given([0.1, -0.1, 0.2])) == "within noise"
    # 0.1 +- 4.3 * 0.0173 without images; with images too, the interval holds 0.
    assert verdict(given([0.1, 0.13, 0.07])) == "higher, beyond noise"
    assert verdict(given([0.1, 0.13, 0.07], image_error=0.06)) == "within noise"
    # At the level of seven comparisons, t is 11.8 instead of 4.3.
    assert "one of 7" in verdict(given([0.1, 0.13, 0.07]), comparisons=7)
    assert verdict(given([0.0, 0.0, 0.0], image_error=0.0)) == "identical"
    assert verdict(given([0.1])) == "one seed cannot tell"
    assert verdict(given([math.nan, math.nan])) == "not defined"


def test_two_seeds_of_one_difference_are_no_certainty():
    # Without the images' error, two equal differences would make an interval of no width.
    difference = Difference(np.array([0.1, 0.1]), seed_error=0.0, image_error=0.02, images=100)
    low, high = difference.interval()
    assert high - low == pytest.approx(2 * 0.02 * 1.984217)


VARIANTS = {"ciou": "model.loss.box=ciou", "better": "model.loss.box=nwd", "same": "model.loss.box=iou"}


def three_variants():
    """`better` is 0.1 better with every seed; `same` is equal to the last digit."""
    offsets = {"ciou": 0.0, "better": 0.1, "same": 0.0}
    return [
        cell(name, seed, 0.3 + 0.01 * seed + offset + 0.001 * (seed == 1) * (name == "better"))
        for name, offset in offsets.items()
        for seed in range(3)
    ]


def test_the_report_says_what_is_beyond_noise(tmp_path):
    text = write_report(tmp_path, VARIANTS, three_variants(), {"command": "`compare`"})
    assert "higher, beyond noise" in text
    report = (tmp_path / "report.md").read_text()
    assert "| better  | 0.4103 ± 0.0100 | **+0.1003 [" in report
    assert re.search(r"\| same +\| 0.3100 ± 0.0100 \| \+0.0000 \[\+0.0000, \+0.0000\] +\| identical ", report)
    assert "AP large" not in report  # there are no large objects
    assert "2 comparisons were made" in report
    assert "- command: `compare`" in report
    for name in ("differences.png", "sizes.png", "curves.png"):
        assert f"({name})" in report
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_tables_hold_every_cell_and_difference(tmp_path):
    write_report(tmp_path, VARIANTS, three_variants(), {})
    with (tmp_path / "cells.csv").open() as file:
        cells = list(csv.DictReader(file))
    assert [(row["variant"], row["seed"]) for row in cells[:4]] == [
        ("ciou", "0"),
        ("ciou", "1"),
        ("ciou", "2"),
        ("better", "0"),
    ]
    assert float(cells[3]["AP50"]) == 0.4
    with (tmp_path / "differences.csv").open() as file:
        rows = {(row["variant"], row["score"]): row for row in csv.DictReader(file)}
    assert len(rows) == 3 * len(SCORE_NAMES)
    assert float(rows["better", "AP75"]["difference"]) == pytest.approx(0.1 + 0.001 / 3)
    assert float(rows["better", "AP75"]["low"]) > 0.09
    assert not rows["ciou", "AP75"]["difference"]


@pytest.mark.slow
def test_hparams_of_every_cell_are_rewritten(tmp_path):
    for _ in range(2):
        write_report(tmp_path, VARIANTS, three_variants(), {})
    folder = tmp_path / "hparams" / "better-seed2"
    events = EventAccumulator(str(folder))
    events.Reload()
    assert [point.value for point in events.Scalars("score/AP")] == [pytest.approx(0.42)]
    assert len(list((tmp_path / "hparams").iterdir())) == 9


def test_unfinished_cells_are_named_and_left_out(tmp_path):
    cells = [c for c in three_variants() if (c.variant, c.seed) not in {("better", 0), ("same", 1)}]
    cells = [c for c in cells if c.variant != "same"]
    write_report(tmp_path, VARIANTS, cells, {}, missing=["better, seed 0", "same, seed 1"])
    report = (tmp_path / "report.md").read_text()
    assert "left out:** better, seed 0; same, seed 1." in report
    # Seeds 1 and 2 alone: differences of 0.101 and 0.1.
    assert "+0.1005" in report
    assert "| same" not in report


def test_one_seed_has_no_interval(tmp_path):
    cells = [c for c in three_variants() if c.seed == 0]
    write_report(tmp_path, VARIANTS, cells, {})
    report = (tmp_path / "report.md").read_text()
    assert "| better  | 0.4000 | +0.1000 " in report
    assert "one seed cannot tell" in report


def test_cells_scored_on_other_images_are_refused(tmp_path):
    cells = [*three_variants(), cell("same", 3, 0.3, images=49)]
    with pytest.raises(ValueError, match="scored on different images"):
        write_report(tmp_path, VARIANTS, cells, {})
    cells = [*three_variants(), cell("same", 3, 0.3, image_set="b")]
    with pytest.raises(ValueError, match="scored on different images"):
        write_report(tmp_path, VARIANTS, cells, {})
    write_report(tmp_path, VARIANTS, [*three_variants(), cell("same", 3, 0.3, image_set="")], {})


def test_one_image_cannot_tell():
    variant, baseline = (
        [cell(name, s, ap + s, images=1) for s in (0, 1)] for name, ap in (("b", 2), ("a", 1))
    )
    variant[0] = cell("b", 0, 2.5, images=1)
    difference = paired_difference(variant, baseline, "AP")
    assert math.isnan(difference.image_error)
    assert all(map(math.isnan, difference.interval()))
    assert verdict(difference) == "one image cannot tell"


def test_cells_without_curves_and_a_baseline_alone(tmp_path):
    cells = [replace(one, curves=dict.fromkeys(CURVES, (STEPS[:0], STEPS[:0]))) for one in three_variants()]
    write_report(tmp_path, VARIANTS, cells, {})
    assert (tmp_path / "curves.png").is_file()
    alone = [one for one in cells if one.variant == next(iter(VARIANTS))]
    write_report(tmp_path, VARIANTS, alone, {}, ["others"])
    assert "No comparison was made yet." in (tmp_path / "report.md").read_text()
