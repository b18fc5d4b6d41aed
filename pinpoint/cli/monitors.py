"""Callbacks that watch a score, held against the scores that there will be, before an hour of training."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from lightning.pytorch import Callback

from detector.module import HEADLINES, LOGGED_NAMES
from detector.training.checkpoints import BestCheckpoint
from evaluation.coco import CocoScores, evaluate
from losses.detection import TERMS

RENAMED = {f"val/{name}": f"val/{logged}" for name, logged in LOGGED_NAMES.items()}
"""Scores that are logged under another name, by their own."""


def check_monitors(callbacks: Iterable[Callback], class_names: Sequence[str], validates: bool = True) -> None:
    """Refuse a callback that watches a score or a loss that is not logged.

    `val/AP` becomes `val/map`, as which it is logged. Names of another kind, such as those that a callback of
    the user's logs, are not judged.

    Args:
        callbacks: of the trainer.
        class_names: name of each class index.
        validates: whether the training validates at all.

    Raises:
        ValueError: if there is one; it says what may be meant.
    """
    nothing = CocoScores(class_names).gather()
    assert nothing is not None
    known = [f"val/{LOGGED_NAMES.get(name, name)}" for name in evaluate(nothing, class_names)]
    known += [f"Scores/{name}" for name in HEADLINES]
    known += [f"val/{term}" for term in TERMS]
    losses = [f"train/{term}" for term in TERMS]
    for callback in callbacks:
        watched = getattr(callback, "monitor", None)
        if watched in RENAMED:  # as tables and results.csv call it
            watched = callback.monitor = RENAMED[watched]  # type: ignore[attr-defined]
        if not isinstance(watched, str) or watched in losses:
            continue
        if watched in known:
            if not validates and not isinstance(callback, BestCheckpoint):
                raise ValueError(
                    f"{type(callback).__name__} watches {watched}, and --trainer.limit_val_batches=0 leaves "
                    "nothing to validate: leave one of them out, or watch train/loss"
                )
            continue
        place, _, name = watched.rpartition("/")
        if close := get_close_matches(watched, losses, 2, 0.8):
            raise ValueError(
                f"{type(callback).__name__} watches {watched}, which is not logged: "
                f"did you mean {' or '.join(close)}?"
            )
        if place.split("/")[0] in ("", "val", "Scores"):
            close = get_close_matches(f"val/{name.removeprefix('val_')}", known, 3, 0.7)
            meant = "val/map" if name.lower() in ("ap", "map", "val_ap", "val_map") else " or ".join(close)
            raise ValueError(
                f"{type(callback).__name__} watches {watched}, which is not logged: "
                f"{f'did you mean {meant}? ' if meant else ''}val/map is AP, and val/NAME any other score "
                "of metrics.json"
            )
