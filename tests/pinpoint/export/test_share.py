"""The model card, whatever the classes are called and the network takes."""

import pytest

from pinpoint.export.gate import Comparison
from pinpoint.export.share import SIZES, model_card

NAMES = ["banana", "a|b", "nan", "<b>", "*star*", "back\\slash"]


def card(channels: int | None, compared: Comparison | None = None) -> str:
    network = {"backbone": "resnet18"} | ({} if channels is None else {"in_channels": channels})
    data = {"class_path": "CocoDataModule", "init_args": {"image_size": [64, 96], "augment": {"flip": 0.5}}}
    config = {"model": {"network": network}, "data": data}
    return model_card({"class_names": NAMES, "config": config}, "mit", compared)


def test_names_are_shown_as_they_are() -> None:
    scores = {f"AP{size}": 0.5 for size in (*SIZES, "50")} | {"AP_large": float("nan")}
    scores |= {f"AP/{name}": float("nan") if name == "nan" else 0.25 for name in NAMES}
    text = card(3, Comparison(3, 0, 0, scores, scores, 1, 1))
    assert "| large, above 96 px | no such object |" in text
    shown = ["banana", r"a\|b", "nan", r"\<b\>", r"\*star\*", r"back\\slash"]
    rows = [f"| {name} | {'no such object' if name == 'nan' else '0.250'} |" for name in shown]
    assert "\n".join(rows) in text
    assert f"# Detector of {', '.join(shown)}\n" in text
    assert f"Classes, in the order of their indices: {', '.join(shown)}." in text


@pytest.mark.parametrize(
    ("channels", "said"), [(None, "RGB"), (3, "RGB"), (1, "the mean of RGB"), (4, "4 channels")]
)
def test_what_the_network_takes(channels: int | None, said: str) -> None:
    text = card(channels)
    assert f"input 64 x 96 pixels (height x width), {said}." in text
    assert f"(grey, centred), {said}, in [0, 1]" in text
