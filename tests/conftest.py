"""What tests of several packages share: one tiny training run on generated scenes."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny import TINY_MODEL, Run, tiny_scenes

import train  # before torch, as it sets how torch's threads wait

import torch  # isort: skip

import loopback  # isort: skip
from coco_folder import CocoFolder  # isort: skip
from datamodules.download import fetch  # isort: skip

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

os.environ.setdefault("PINPOINT_TRACEBACK", "1")  # a failing script shows where

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # as in the background of a script, nohup pytest &
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a GPU where there is none."""
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a GPU")


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two epochs on tiny scenes."""
    torch.set_num_threads(1)  # it may be made before any test's `one_thread`
    root = tmp_path_factory.mktemp("run")
    scenes = tiny_scenes(root)
    train.main(
        [
            *scenes,
            *TINY_MODEL,
            "--trainer.max_epochs=2",
            "--trainer.accelerator=cpu",
            f"--trainer.logger.init_args.save_dir={root}",
            "--trainer.logger.init_args.name=tiny",
            "--trainer.log_every_n_steps=1",
        ]
    )
    return Run(root / "tiny" / "version_0", scenes)


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[loopback.Site]:
    """A web server that tells the tests' downloads everything but the truth, if asked to."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "WAITS", (0, 0, 0))
    with loopback.running() as site:
        yield site


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Small tensors gain nothing from threads, and sums come out alike on every machine."""
    torch.set_num_threads(1)


@pytest.fixture
def shared_data() -> Path:
    """Folder of the real data sets."""
    if not SHARED.is_dir():
        pytest.skip("the shared data sets are not here")
    return SHARED


@pytest.fixture
def coco_folder(tmp_path: Path) -> CocoFolder:
    """A data set that tests may change before they read it."""
    return CocoFolder(tmp_path / "coco")
