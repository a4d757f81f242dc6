"""torch, where a program has it: never imported unless a tensor of it was given or is asked for."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinker_actors.errors import InvalidInput

__all__ = ["array_of_torch", "is_torch", "torch_of_array"]


def is_torch(given: object) -> bool:
    """Whether ``given`` is a torch tensor. A program that has one has imported torch itself."""
    torch: Any = sys.modules.get("torch")
    kind: Any = getattr(torch, "Tensor", None)
    return isinstance(kind, type) and isinstance(given, kind)


def array_of_torch(field: str, tensor: Any) -> NDArray[np.generic]:
    """The values of a torch tensor on any device; on the CPU, its own memory wherever numpy knows the dtype."""
    if not is_torch(tensor):
        raise InvalidInput(field, "is not a torch tensor", "Use from_numpy for arrays")
    torch: Any = sys.modules["torch"]
    dense = tensor.detach().cpu()
    if dense.layout is not torch.strided:
        dense = dense.to_dense()
    if dense.dtype in (torch.bfloat16, torch.float16):
        dense = dense.float()
    array: NDArray[np.generic] = dense.contiguous().numpy()
    return array


def torch_of_array(array: NDArray[Any]) -> Any:
    """A torch tensor of a copy of ``array``, which stays read-only. Raises InvalidInput where torch is missing."""
    try:
        torch = import_module("torch")
    except ImportError:
        raise InvalidInput("torch", "is not installed", "Install torch, or use to_numpy()") from None
    return torch.from_numpy(np.array(array))
