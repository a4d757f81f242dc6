"""Functions and objects of many shapes as what a RegularizerSpec takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tinker_actors.checks import text
from tinker_actors.errors import InvalidInput
from tinker_actors.regularizers.evaluate import LossFunction, is_async
from tinker_actors.types import Datum, RegularizerSpec

__all__ = ["regularizer"]


def regularizer(
    implementation: Any, weight: float, *, name: str | None = None, options: Mapping[str, Any] | None = None
) -> RegularizerSpec:
    """A RegularizerSpec of a function ``fn(data, logprobs)``, one ``fn(data, logprobs, options)``, or an object or
    module with such a ``compute``.

    Without a ``name`` it is the implementation's own ``name`` (or what its ``name()`` gives), or that of the function
    or class. Raises InvalidInput for anything else, and for options that nobody takes.
    """
    function: Any = getattr(implementation, "compute", implementation)
    if not callable(function):
        raise InvalidInput("implementation", "can't be called and has no compute()", "Give fn(data, logprobs)")
    named = name if name is not None else _name(implementation)
    return RegularizerSpec(
        fn=_of_two(function, options), weight=weight, name=text("name", named, "Name it"), is_async=is_async(function)
    )


def _of_two(function: Callable[..., Any], options: Mapping[str, Any] | None) -> LossFunction:
    if _takes(function, 3):
        given = dict(options or {})
        if is_async(function):

            async def awaited(data: Sequence[Datum], logprobs: Any) -> Any:
                return await function(data, logprobs, given)

            return awaited
        return lambda data, logprobs: function(data, logprobs, given)
    if options:
        raise InvalidInput("options", "is taken by no third argument", "Give fn(data, logprobs, options)")
    return function


def _takes(function: Callable[..., Any], count: int) -> bool:
    try:
        signature = inspect.signature(function)
        signature.bind(*[None] * count)
    except (TypeError, ValueError):
        return False
    return True


def _name(implementation: Any) -> Any:
    own = getattr(implementation, "name", None)
    if callable(own):
        own = own()
    if own is None:
        own = getattr(implementation, "__name__", type(implementation).__name__)
    return own.rpartition(".")[2] if isinstance(own, str) else own
