"""The gradient of a function of log-probabilities: by autograd for numpy, by torch's own for torch.

autograd numbers its traces by how many are under way in the whole process, so that nested ones of two threads can get
numbers in the wrong order and lose gradients. The traces made here are numbered by what they are nested in alone,
below all of autograd's own, so threads don't meet.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from typing import Any, final

import autograd.core
import autograd.tracer
import autograd.util

from tinker_actors.errors import GradientUnavailable
from tinker_actors.regularizers.arrays import is_traced, library_of, plain
from tinker_actors.types.torch import is_torch

__all__ = ["cure_for", "slopes", "Trace", "trace_of"]

# autograd has no types.
_core: Any = autograd.core
_tracer: Any = autograd.tracer
_util: Any = autograd.util

# What autograd gives before its first trace.
_NONE = -1


@final
class Trace:
    """A function's inputs, followed through numpy: ``leaves`` in place of ``tensors``."""

    def __init__(self, tensors: Sequence[Any]) -> None:
        within: float = max((tensor._trace for tensor in tensors if is_traced(tensor)), default=_NONE)  # noqa: SLF001
        self._number = (within + math.floor(within) + 1) / 2  # above what it is nested in, below what comes next
        self._tensors = tensors
        self._roots: list[Any] = [_core.VJPNode.new_root() for _ in tensors]
        self.leaves: list[Any] = [
            _tracer.new_box(tensor, self._number, root) for tensor, root in zip(tensors, self._roots, strict=True)
        ]

    def gradients(self, value: Any) -> list[Any] | None:
        """Of ``value`` (summed, if it is no scalar) by each leaf; None where it does not come from them."""
        if not is_traced(value) or value._trace != self._number:  # noqa: SLF001
            return None
        end: Any = value._node  # noqa: SLF001
        flowing: dict[Any, Any] = {end: (_core.vspace(value._value).ones(), False)}  # noqa: SLF001
        arrived: dict[Any, Any] = {}
        for node in _util.toposort(end):
            gradient: Any = flowing.pop(node)
            arrived[node] = gradient[0]
            for parent, part in zip(node.parents, node.vjp(gradient[0]), strict=True):
                flowing[parent] = _core.add_outgrads(flowing.get(parent), part)
        zeros: list[Any] = [_core.vspace(plain(tensor)).zeros() for tensor in self._tensors]
        return [arrived.get(root, zero) for root, zero in zip(self._roots, zeros, strict=True)]


@final
class TorchTrace:
    """A function's inputs, followed by torch. With ``within`` they stay part of what is differentiated already."""

    def __init__(self, tensors: Sequence[Any], *, within: bool = False) -> None:
        self._torch: Any = sys.modules["torch"]
        self._within = within
        self.leaves: list[Any] = [
            tensor if within and tensor.requires_grad else tensor.detach().clone().requires_grad_()
            for tensor in tensors
        ]

    def gradients(self, value: Any) -> list[Any] | None:
        """As those of Trace."""
        if not is_torch(value) or not value.requires_grad:
            return None
        found = self._torch.autograd.grad(
            value.sum(), self.leaves, create_graph=self._within, allow_unused=True, materialize_grads=True
        )
        return list(found)


def trace_of(tensors: Sequence[Any]) -> Trace | TorchTrace:
    """A new trace of constants."""
    return TorchTrace(tensors) if any(map(is_torch, tensors)) else Trace(tensors)


def slopes(function: Callable[[list[Any]], Any], tensors: list[Any]) -> list[Any]:
    """The gradients of ``function`` at ``tensors``, themselves open to differentiation.

    Raises GradientUnavailable where its value does not come from them, or only beside the library.
    """
    inner = TorchTrace(tensors, within=True) if any(map(is_torch, tensors)) else Trace(tensors)
    gradients = inner.gradients(function(inner.leaves))
    if gradients is None:
        raise GradientUnavailable("loss_fn", "its value does not come from the logprobs", cure_for(tensors))
    return gradients


def cure_for(tensors: Sequence[Any]) -> str:
    """What to do about a lost gradient."""
    name = getattr(library_of(tensors), "__name__", "autograd.numpy")
    return f"Compute it with {name}, without float(), detach() or copies into other arrays"
