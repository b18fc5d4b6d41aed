"""An optimizer that moves a kernel in all of its directions alike."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.optimizer import ParamsT

from datamodules.limits import require_between

QUINTIC = (3.4445, -4.7750, 2.0315)
"""Coefficients of x, x^3 and x^5; five times in a row they bring singular values into 0.7 to 1.2."""

ITERATIONS = 5

LEAST = 4
"""Rows and columns of a matrix that is worth it: with fewer there is hardly a direction to choose."""


class MuonAdamW(AdamW):
    """Muon for kernels, AdamW for all else: norms, biases, depthwise filters.

    A kernel of a dense convolution is a matrix, output channels by inputs of a point. Its step is the
    momentum of its gradients with all singular values set to about 1, so that directions which gradients
    seldom show are learned as fast as those that dominate each batch.

    Args:
        params: parameters or groups of them.
        lr: learning rate.
        betas: of AdamW.
        eps: of AdamW.
        weight_decay: times the learning rate, the share that a step takes off a weight of either kind.
        kernel_momentum: share of a kernel's momentum that a step keeps; Nesterov's.
        kernel_gain: root mean square of a step's change of a kernel, in learning rates.

    Raises:
        ValueError: a number out of its range.

    Source: Jordan et al. 2024, Muon: An optimizer for hidden layers in neural networks (the iteration and its
    coefficients); Liu et al. 2025, Muon is Scalable for LLM Training (one root mean square for all shapes).
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 4e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.05,
        kernel_momentum: float = 0.95,
        kernel_gain: float = 1.5,
    ) -> None:
        require_between("optimizer.kernel_momentum", kernel_momentum, 0, 1)
        require_between("optimizer.kernel_gain", kernel_gain, 0, 1000)
        super().__init__(params, lr=lr, betas=betas, eps=eps, weight_decay=weight_decay)
        # Not `momentum`, which an optimizer that is chosen in its place would be given.
        for name, value in (("kernel_momentum", kernel_momentum), ("kernel_gain", kernel_gain)):
            self.defaults[name] = value
            for group in self.param_groups:
                group.setdefault(name, value)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # noqa: ANN401  # what the closure gives
        """Take a step; `found_inf`, a tensor that is 1 where there are no numbers, leaves it out."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        kernels = [
            (group, [p for p in group["params"] if p.grad is not None and is_kernel(p)])
            for group in self.param_groups
        ]
        gradients = {p: p.grad for _, parameters in kernels for p in parameters}
        for parameter in gradients:
            parameter.grad = None  # so that AdamW passes over it
        super().step()
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        for group, parameters in kernels:
            alike = defaultdict(list)
            for parameter in parameters:
                alike[parameter.shape].append(parameter)
            for same in alike.values():
                self._step(group, same)
        return loss

    def _step(self, group: dict[str, Any], kernels: list[Tensor]) -> None:
        """Move kernels of one shape."""
        for kernel in kernels:
            if not self.state[kernel]:  # AdamW reads "step" of all of them
                self.state[kernel] = {"step": torch.zeros(()), "momentum_buffer": torch.zeros_like(kernel)}
        buffers = [self.state[kernel]["momentum_buffer"] for kernel in kernels]
        gradient = torch.stack([kernel.grad for kernel in kernels])  # type: ignore[misc]
        kept: float | Tensor = 1.0
        if (found_inf := getattr(self, "found_inf", None)) is not None:
            kept = 1 - found_inf
            gradient = gradient.masked_fill(found_inf > 0, 0)
        momentum = torch.stack(buffers)
        momentum += (gradient - momentum) * ((1 - group["kernel_momentum"]) * kept)
        torch._foreach_copy_(buffers, list(momentum))
        step = orthogonal(gradient.lerp(momentum, group["kernel_momentum"]).flatten(2))
        step *= group["lr"] * group["kernel_gain"] * max(step.shape[1:]) ** 0.5 * kept
        torch._foreach_mul_(kernels, 1 - group["lr"] * group["weight_decay"] * kept)
        torch._foreach_sub_(kernels, list(step.view_as(gradient).to(gradient.dtype)))


def is_kernel(parameter: Tensor) -> bool:
    """Whether a parameter is a matrix, or a dense convolution's kernel: not depthwise, not a few numbers."""
    if parameter.ndim < 2 or parameter.shape[1] == 1:
        return False
    rows = parameter.shape[0]
    return min(rows, parameter.numel() // rows) >= LEAST


def orthogonal(matrices: Tensor) -> Tensor:
    """The matrices with singular values of about 1, 0.7 to 1.2, in place of their own; in float32.

    Args:
        matrices: (K, M, N), of any scale.

    Returns:
        (K, M, N) float32; zeros for zeros.
    """
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices.float() if wide else matrices.float().mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    # Each iteration multiplies x by a polynomial of x x^T, so only small square matrices change on the way.
    gram = x @ x.mT
    factor = whole = _polynomial(gram)
    for _ in range(ITERATIONS - 1):
        gram = factor @ gram @ factor
        factor = _polynomial(gram)
        whole = factor @ whole
    result: Tensor = whole @ x
    return result if wide else result.mT


def _polynomial(gram: Tensor) -> Tensor:
    """Times x on its right, x x^T being (K, M, M), one iteration of x."""
    a, b, c = QUINTIC
    result = torch.baddbmm(b * gram, gram, gram, alpha=c)
    result.diagonal(dim1=1, dim2=2).add_(a)
    return result
