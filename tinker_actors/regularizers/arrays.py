"""One set of formulas for two libraries: numpy as autograd traces it, and torch where a program has it.

The names used by the formulas (``exp``, ``sum(axis=)``, ``where``, ``clip``, ``stack``, ...) mean the same in
``autograd.numpy`` and in ``torch``, so a formula takes its library as a module.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, cast

import autograd.numpy
import autograd.tracer
import numpy as np

from tinker_actors.errors import InvalidInput
from tinker_actors.types import TensorData
from tinker_actors.types.torch import is_torch

__all__ = ["as_tensors", "is_traced", "like", "library_of", "number_of", "plain", "regrouped", "total_size"]


def is_traced(value: Any) -> bool:
    """Whether autograd follows what becomes of ``value``."""
    return isinstance(value, autograd.tracer.Box)


def library_of(tensors: Sequence[Any]) -> Any:
    """The module whose functions take ``tensors``: torch or autograd.numpy."""
    if any(is_torch(tensor) for tensor in tensors):
        return sys.modules["torch"]
    return autograd.numpy


def plain(value: Any) -> Any:
    """``value`` without its trace: nothing flows back through it."""
    if is_torch(value):
        return value.detach()
    while is_traced(value):
        value = value._value  # noqa: SLF001  # autograd has no public name for it
    return value


def number_of(value: Any) -> float:
    """A scalar of either library as a float."""
    return float(plain(value))


def as_tensors(logprobs: Any) -> list[Any]:
    """The tensors of ``logprobs``, one for each datum; a single array, tensor or number is one.

    Arrays become float64, so that sums and gradients are exact to what float32 logprobs carry. Tensors of torch and
    what autograd traces are left as they are. Raises InvalidInput, naming the datum, for anything else.
    """
    if isinstance(logprobs, (list, tuple)):
        parts = cast("Sequence[Any]", logprobs)
        if parts and not all(np.ndim(part) == 0 and not _is_tensor(part) for part in parts):
            return [_as_tensor(f"logprobs[{index}]", part) for index, part in enumerate(parts)]
    return [_as_tensor("logprobs", logprobs)]


def regrouped(logprobs: Any, tensors: list[Any]) -> Any:
    """``tensors`` in the shape that ``logprobs`` has: a list, or the one."""
    if isinstance(logprobs, (list, tuple)) and (len(tensors) != 1 or _holds_tensor(cast("Sequence[Any]", logprobs))):
        return tensors
    return tensors[0]


def like(reference: Any, field: str, given: Any) -> Any:
    """``given`` as a constant of the library, dtype and place of the tensor ``reference``."""
    if is_torch(reference):
        torch = sys.modules["torch"]
        if is_torch(given):
            return given.detach().to(dtype=reference.dtype, device=reference.device)
        return torch.as_tensor(np.array(_array(field, given)), dtype=reference.dtype, device=reference.device)
    return _array(field, plain(given))


def total_size(tensors: Sequence[Any]) -> int:
    """How many numbers they have together."""
    return sum(int(np.prod(tuple(tensor.shape), dtype=np.int64)) for tensor in tensors)


def _is_tensor(part: Any) -> bool:
    return is_torch(part) or isinstance(part, (np.ndarray, TensorData)) or is_traced(part)


def _holds_tensor(parts: Sequence[Any]) -> bool:
    return any(_is_tensor(part) or np.ndim(part) > 0 for part in parts)


def _as_tensor(field: str, part: Any) -> Any:
    return part if is_torch(part) or is_traced(part) else _array(field, part)


def _array(field: str, given: Any) -> Any:
    if isinstance(given, TensorData):
        given = given.to_numpy()
    elif is_torch(given):
        given = given.detach().cpu().double().numpy()
    try:
        array = np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError):
        raise InvalidInput(field, "is no array of numbers", "Give one array for each datum") from None
    if not array.size:
        raise InvalidInput(field, "is empty", "Give at least one log-probability for each datum")
    return array
