import copy

import pytest
import torch
from torch import Tensor, nn

from detector.training.muon import MuonAdamW, is_kernel, orthogonal


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.Conv2d(16, 16, 3, groups=16),
        nn.Conv2d(16, 8, 1),
        nn.BatchNorm2d(8),
        nn.Conv2d(8, 8, 1),
        nn.Conv2d(8, 3, 1),
    )


def give_gradients(*networks: nn.Module, seed: int) -> None:
    torch.manual_seed(seed)
    for parameters in zip(*(one.parameters() for one in networks), strict=True):
        gradient = torch.randn_like(parameters[0])
        for parameter in parameters:
            parameter.grad = gradient.clone()


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16), (1, 8, 8)])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_singular_values_become_about_one_and_directions_stay(shape: tuple[int, ...], scale: float) -> None:
    matrices = scale * torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, before, vh = torch.linalg.svd(matrices, full_matrices=False)
    changed = u.mT @ orthogonal(matrices) @ vh.mT
    after = changed.diagonal(dim1=1, dim2=2)
    clear = before > 0.01 * before[:, :1]
    assert after[clear].min() > 0.6
    assert after.max() < 1.25
    torch.testing.assert_close(changed, torch.diag_embed(after), atol=2e-3, rtol=0)


def test_zeros_stay_zeros() -> None:
    assert orthogonal(torch.zeros(2, 4, 8)).eq(0).all()


def test_which_weights_are_kernels() -> None:
    shapes = {
        (16, 3, 3, 3): True,
        (16, 1, 3, 3): False,
        (8, 16, 1, 1): True,
        (3, 8, 1, 1): False,
        (8,): False,
    }
    assert {shape: is_kernel(torch.empty(shape)) for shape in shapes} == shapes
    assert not is_kernel(torch.empty(32, 3, 1, 1))  # three columns


def test_kernels_step_as_with_torchs_muon_and_the_rest_as_with_adamw() -> None:
    start, ours, adamw = network(), network(), network()
    lr, gain, decay = 0.01, 0.75, 0.1
    optimizer = MuonAdamW(ours.parameters(), lr=lr, weight_decay=decay, kernel_gain=gain)
    rest = torch.optim.AdamW(adamw.parameters(), lr=lr, weight_decay=decay)
    # Torch's takes matrices alone, counts gain in fifths, and multiplies its decay by the raised rate.
    kernels = [p for p in start.parameters() if is_kernel(p)]
    matrices = [nn.Parameter(p.detach().flatten(1).clone()) for p in kernels]
    raised = lr * gain / 0.2
    muon = torch.optim.Muon(
        matrices, lr=raised, weight_decay=decay * lr / raised, adjust_lr_fn="match_rms_adamw"
    )
    for step in range(4):
        give_gradients(start, ours, adamw, seed=step)
        for matrix, kernel in zip(matrices, kernels, strict=True):
            assert kernel.grad is not None
            matrix.grad = kernel.grad.flatten(1)
        for one in (optimizer, rest, muon):
            one.step()
    expected = iter(matrices)
    for before, p, plain in zip(start.parameters(), ours.parameters(), adamw.parameters(), strict=True):
        if is_kernel(p):  # torch computes in bfloat16
            theirs = next(expected).view_as(p)
            assert (p - theirs).abs().mean() < 0.02 * (theirs - before).abs().mean()
        else:
            torch.testing.assert_close(p, plain, rtol=0, atol=0)


def test_the_layout_of_a_kernel_does_not_matter() -> None:
    plain, other = network(), network().to(memory_format=torch.channels_last)
    optimizers = [MuonAdamW(one.parameters()) for one in (plain, other)]
    for step in range(3):
        give_gradients(plain, other, seed=step)
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(plain.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_a_step_without_numbers_is_left_out_to_the_bit() -> None:
    model = network()
    optimizer = MuonAdamW(model.parameters())
    for group in optimizer.param_groups:
        group["fused"] = True
    give_gradients(model, seed=0)
    optimizer.step()
    kept = copy.deepcopy((model.state_dict(), optimizer.state_dict()["state"]))
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, torch.nan)
    optimizer.found_inf, optimizer.grad_scale = torch.ones(()), None  # type: ignore[attr-defined]
    optimizer.step()
    torch.testing.assert_close((model.state_dict(), optimizer.state_dict()["state"]), kept, rtol=0, atol=0)
    give_gradients(model, seed=1)
    optimizer.found_inf = torch.zeros(())  # type: ignore[attr-defined]
    optimizer.step()
    assert all(
        (model.state_dict()[name] != value).any() for name, value in kept[0].items() if "weight" in name
    )


def test_it_goes_on_from_its_state() -> None:
    whole = network()
    optimizer = MuonAdamW(whole.parameters(), kernel_momentum=0.9)
    for step in range(2):
        give_gradients(whole, seed=step)
        optimizer.step()
    again = copy.deepcopy(whole)
    resumed = MuonAdamW(again.parameters(), kernel_momentum=0.5)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    give_gradients(whole, again, seed=2)
    optimizer.step()
    resumed.step()
    for a, b in zip(whole.parameters(), again.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_the_closure_is_called_once_with_gradients_enabled() -> None:
    model = nn.Linear(8, 8)
    optimizer = MuonAdamW(model.parameters())
    before, calls = model.weight.detach().clone(), []

    def closure() -> Tensor:
        calls.append(torch.is_grad_enabled())
        loss: Tensor = model(torch.ones(2, 8)).square().mean()
        loss.backward()
        return loss

    assert optimizer.step(closure) > 0
    assert calls == [True]
    assert (model.weight != before).any()


@pytest.mark.parametrize(
    "wrong", [{"kernel_momentum": 2}, {"kernel_gain": -1}, {"kernel_gain": float("nan")}]
)
def test_numbers_out_of_range(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=rf"optimizer\.{next(iter(wrong))} must be 0 to"):
        MuonAdamW(network().parameters(), **wrong)
