"""Steps that are not numbers are left out, named and kept."""

from pathlib import Path

import pytest
import torch
from tiny import TINY_MODEL, Run

import train
from datamodules.batch import Batch
from detector.checkpoint import load_checkpoint
from detector.module import Detector
from detector.training.nonfinite import require_finite, spoil
from pinpoint.cli import replay

OPTIONS = ["--trainer.max_epochs=1", "--trainer.accelerator=cpu", "--trainer.num_sanity_val_steps=0"]


def poisoned(monkeypatch: pytest.MonkeyPatch, steps: tuple[int, ...], where: str = "pixels") -> list[dict]:
    """Let steps be not finite; returns weights and statistics after each, and the images' names."""
    seen: list[dict] = []
    step = Detector.training_step

    def training_step(self: Detector, batch: Batch, batch_idx: int) -> torch.Tensor:
        seen.append({name: value.clone() for name, value in self.state_dict().items()})
        if self.global_step in steps and where == "pixels":
            batch.images[1, 0, 5, 7] = torch.nan
        loss = step(self, batch, batch_idx)
        if self.global_step in steps and where == "gradient":
            weight = next(self.network.parameters())
            weight.register_hook(lambda g: g * torch.inf)
        return loss

    monkeypatch.setattr(Detector, "training_step", training_step)
    return seen


def trained(run: Run, folder: Path, *more: str) -> Path:
    save = [f"--trainer.logger.init_args.save_dir={folder}", "--trainer.logger.init_args.name=tiny"]
    train.main([*run.scenes, *TINY_MODEL, *OPTIONS, *save, *more])
    return folder / "tiny" / "version_0"


@pytest.mark.parametrize("optimizer", ["AdamW", "RMSprop"])
def test_a_step_is_left_out_and_its_batch_kept(
    optimizer: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    seen = poisoned(monkeypatch, (1,))
    with pytest.warns(
        UserWarning, match=r"left out step 2 \(epoch 0, batch 1\): pixels, and so loss"
    ) as said:
        folder = trained(run, tmp_path, f"--model.optimizer={optimizer}", "--model.optimizer.lr=0.001")
    (line,) = [str(w.message) for w in said if "left out" in str(w.message)]
    before, after = seen[1], seen[2]
    counts = [name for name in before if name.endswith("num_batches_tracked")]
    for name in before.keys() - set(counts):
        assert torch.equal(before[name], after[name]), name  # weights and statistics of norms
    assert any(not torch.equal(seen[0][name], before[name]) for name in before)  # other steps are taken
    last = load_checkpoint(str(folder / "checkpoints" / "last.ckpt"))
    assert last["global_step"] == 3
    assert all(w.isfinite().all() for w in last["state_dict"].values() if w.is_floating_point())

    (file,) = (folder / "not_finite").iterdir()
    assert str(file) in line
    monkeypatch.undo()
    replay.main([str(file)])
    whole, *images = capsys.readouterr().out.splitlines()[-3:]
    assert whole.startswith("all 2 images: ")
    assert "loss nan" in whole
    assert "nan" not in images[0]
    assert "with pixels that are not finite" in images[1]
    assert images[1].split(":")[0] in line


def test_a_gradient_alone_is_noticed(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = poisoned(monkeypatch, (2,), "gradient")
    with pytest.warns(UserWarning, match=r"left out step 3 \(epoch 0, batch 2\): the gradient not finite"):
        folder = trained(run, tmp_path)
    last = load_checkpoint(str(folder / "checkpoints" / "last.ckpt"))["current_model_state"]
    assert torch.equal(last["network.head.classes.0.2.bias"], seen[2]["network.head.classes.0.2.bias"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--trainer.callbacks.most=2"], r"2 steps in a row could not be taken, the last one step 2"),
        (["--trainer.callbacks.action=stop"], r"step 1 \(epoch 0, batch 0\): pixels"),
    ],
)
def test_the_run_ends_after_a_few_in_a_row_or_at_once(
    options: list[str], message: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poisoned(monkeypatch, (0, 1, 2))
    with pytest.raises(ValueError, match=message):
        trained(run, tmp_path, "--trainer.callbacks+=NonFiniteSteps", *options)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_loss_that_is_not_finite_has_no_finite_gradient() -> None:
    weight = torch.ones(2, requires_grad=True)
    spoil(weight.sum() * 3).backward()
    assert weight.grad.tolist() == [3, 3]
    weight.grad = None
    spoil(weight.sum() + torch.inf).backward()
    assert weight.grad.isnan().all()


def test_weights_that_are_no_numbers_are_not_saved() -> None:
    require_finite({"state_dict": {"a": torch.ones(2)}})
    with pytest.raises(ValueError, match="the weights are no numbers any more, b and perhaps others"):
        require_finite(
            {"state_dict": {"a": torch.ones(2)}, "current_model_state": {"b": torch.tensor([torch.nan])}}
        )
