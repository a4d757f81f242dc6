"""As much of an autograd library as the SDK's forward_backward_custom asks for: what it sends needs no more.

The SDK leaves that call out where the package named torch is missing, and nothing else in it needs that package.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import numpy as np
from tinker.lib.public_interfaces import training_client

__all__ = ["Loss", "Tensor", "with_autograd"]


class Tensor:
    """An array, and its gradient once a loss of it has gone backward."""

    def __init__(self, data: Any) -> None:
        self.array = np.array(data, np.float32)
        self.grad: np.ndarray | None = None

    def reshape(self, shape: Any) -> Tensor:
        """The same numbers in another shape."""
        return Tensor(self.array.reshape(shape))

    def clone(self) -> Tensor:
        """A copy."""
        return Tensor(self.array)

    def detach(self) -> Tensor:
        """What it was made of doesn't matter."""
        return self

    def requires_grad_(self, _wanted: bool) -> Tensor:
        """Every tensor takes its gradient here."""
        return self

    def sum(self) -> Tensor:
        """The sum of its numbers."""
        return Tensor(self.array.sum())

    def item(self) -> float:
        """Its only number."""
        return float(self.array)


class Loss(Tensor):
    """A scalar that tells each tensor its gradient."""

    def __init__(self, value: float, backward: Callable[[], None]) -> None:
        super().__init__(value)
        self.backward = backward


@contextmanager
def with_autograd() -> Iterator[None]:
    """Within, the SDK's training client takes the above for torch."""
    found: Any = training_client
    before, found.torch = found.torch, SimpleNamespace(tensor=Tensor)
    try:
        yield
    finally:
        found.torch = before
