"""Operations that wait for a GPU, found on a CPU."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class NoWaiting(TorchDispatchMode):
    """Refuses operations that need a value on the host, and so would wait for a GPU; backwards included.

    `prod` is refused for its backward, which waits, but not where a mode like this one watches.

    Args:
        allowed: names of operations that may wait, in the order in which they come, each once.
    """

    WAITING = (
        "_local_scalar_dense",
        "nonzero",
        "masked_select",
        "is_nonzero",
        "_unique2",
        "unique_consecutive",
        "equal",
        "prod",
    )

    def __init__(self, allowed: Sequence[str] = ()) -> None:
        super().__init__()
        self.allowed = list(allowed)

    def __torch_dispatch__(
        self,
        function: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        name = function.overloadpacket.__name__
        if name in self.WAITING:
            assert self.allowed[:1] == [name], name
            self.allowed.pop(0)
        if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
            integers = (torch.int64, torch.int32)
            assert all(index is None or index.dtype in integers for index in args[1]), "a mask"
        if name == "repeat_interleave":
            assert (kwargs or {}).get("output_size") is not None, name
        called: Callable[..., Any] = function
        return called(*args, **(kwargs or {}))
