"""Figures that need no image."""

import numpy as np
import pytest

from evaluation.errors import ERRORS
from evaluation.report.figures import draw_figures


def test_figures_for_tensorboard(mixed):
    _, scores, analysis = mixed
    figures = draw_figures(analysis, scores)
    assert set(figures) == {
        "sizes",
        "errors",
        "curves",
        "confusion",
        "size_confusion",
        "calibration",
        "crowding",
    }
    heights = [bar.get_height() for bar in figures["crowding"].axes[0].patches]
    assert heights == np.nan_to_num(analysis.crowding[1]).tolist()
    bars = {
        text.get_text(): bar.get_width()
        for text, bar in zip(
            figures["errors"].axes[0].get_yticklabels(), figures["errors"].axes[0].patches, strict=True
        )
    }
    assert bars == pytest.approx({name: analysis.error_costs["all"][name] for name in ERRORS})
