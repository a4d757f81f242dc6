"""One term of a loss, computed: its value, its metrics and, where asked for, its gradients."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from tinker_actors.errors import GradientUnavailable, LossTermError
from tinker_actors.regularizers.arrays import as_tensors, library_of, number_of, plain, regrouped
from tinker_actors.regularizers.gradients import cure_for, trace_of
from tinker_actors.types import Datum
from tinker_actors.types.torch import is_torch

__all__ = ["Evaluated", "evaluate", "evaluate_async", "Gradients", "is_async", "LossFunction", "split"]

LossFunction: TypeAlias = Callable[[Sequence[Datum], Any], Any]
"""``fn(data, logprobs)``: a scalar, or a scalar and a mapping of metrics; an array's numbers are summed."""

Gradients: TypeAlias = tuple[NDArray[np.float64], ...]

_PROBE = 1.0 / 64


class Evaluated(msgspec.Struct, frozen=True, kw_only=True):
    """What a term gave; its gradients, one for each tensor of logprobs in its shape, where they were asked for."""

    value: float
    metrics: Mapping[str, float]
    gradients: Gradients | None = None


def is_async(function: Any) -> bool:
    """Whether calling ``function`` gives something to await."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def evaluate(
    name: str, function: LossFunction, data: Sequence[Datum], logprobs: Any, *, gradients: bool = False
) -> Evaluated:
    """The term ``name`` at ``logprobs``; blocking.

    Raises LossTermError for a function that raises or gives no finite number, and GradientUnavailable for one whose
    gradient can't be had although its value can. A function whose value does not depend on the logprobs has the
    gradient 0; that it does not depend on them is tried out.
    """
    steps = _steps(name, logprobs, gradients=gradients)
    given = next(steps)
    while True:
        try:
            result = function(data, given)
        except Exception as error:  # noqa: BLE001  # whatever a function of the user's raises
            taken = _advance(steps.throw, error)
        else:
            taken = _advance(steps.send, result)
        if isinstance(taken, Evaluated):
            return taken
        given = taken.inputs


async def evaluate_async(
    name: str,
    function: Callable[[Sequence[Datum], Any], Awaitable[Any]],
    data: Sequence[Datum],
    logprobs: Any,
    *,
    gradients: bool = False,
) -> Evaluated:
    """``evaluate`` of an async function."""
    steps = _steps(name, logprobs, gradients=gradients)
    given = next(steps)
    while True:
        try:
            result = await function(data, given)
        except Exception as error:  # noqa: BLE001  # as above
            taken = _advance(steps.throw, error)
        else:
            taken = _advance(steps.send, result)
        if isinstance(taken, Evaluated):
            return taken
        given = taken.inputs


class _Call(msgspec.Struct, frozen=True):
    """The function is to be called with these."""

    inputs: Any


def _advance(step: Callable[[Any], Any], outcome: Any) -> _Call | Evaluated:
    try:
        return _Call(step(outcome))
    except StopIteration as done:
        return cast("Evaluated", done.value)


def _steps(name: str, logprobs: Any, *, gradients: bool) -> Generator[Any, Any, Evaluated]:
    """Yields what the function is to be called with, and is sent what that gave or thrown what it raised."""
    tensors = [plain(tensor) for tensor in as_tensors(logprobs)]
    if not gradients:
        return _checked(name, (yield from _plainly(name, logprobs, tensors)))
    trace = trace_of(tensors)
    try:
        result = yield regrouped(logprobs, trace.leaves)
    except Exception as error:  # noqa: BLE001  # whatever a function of the user's raises
        traced = error
    else:
        value, metrics = split(name, result)
        evaluated = Evaluated(value=number_of(value), metrics=metrics)
        found = trace.gradients(value)
        if found is None:
            yield from _require_constant(name, logprobs, tensors, evaluated)
            found = [np.zeros(tuple(tensor.shape)) for tensor in tensors]
        return msgspec.structs.replace(evaluated, gradients=_arrays(name, found))
    if isinstance(traced, GradientUnavailable):
        raise GradientUnavailable(name, traced.problem, traced.cure) from traced
    yield from _plainly(name, logprobs, tensors)
    problem = f"has a value, but {_told(traced)} where its gradient is taken"
    raise GradientUnavailable(name, problem, cure_for(tensors)) from traced


def _plainly(name: str, logprobs: Any, tensors: list[Any]) -> Generator[Any, Any, Any]:
    try:
        return (yield regrouped(logprobs, tensors))
    except Exception as error:  # noqa: BLE001  # as above
        raised = error
    raise LossTermError(name, _told(raised), "Mend the function, or leave the term out") from raised


def _require_constant(name: str, logprobs: Any, tensors: list[Any], at: Evaluated) -> Generator[Any, Any, None]:
    moved = [tensor * (1 + _PROBE) - _PROBE for tensor in tensors]
    beside = _checked(name, (yield from _plainly(name, logprobs, moved)))
    if beside.value != at.value:
        raise GradientUnavailable(name, "its value depends on the logprobs, its gradient is lost", cure_for(tensors))


def split(name: str, result: Any) -> tuple[Any, dict[str, float]]:
    """The value, as a scalar that can be differentiated, and the metrics that a term gave. Raises LossTermError."""
    cure = "Return a scalar, or a scalar and a dict of numbers"
    if inspect.isawaitable(result):
        if inspect.iscoroutine(result):
            result.close()
        raise LossTermError(name, "returned something to await", "Make it an async function: async def")
    value, metrics = result, cast("Any", {})
    if isinstance(result, (tuple, list)):
        pair = cast("Sequence[Any]", result)
        if len(pair) != 2 or not isinstance(pair[1], Mapping):
            raise LossTermError(name, "returned neither a scalar nor a scalar with metrics", cure)
        value, metrics = pair[0], cast("Any", pair[1])
    try:
        scalar = _total(value)
        number = number_of(scalar)
        named = {str(key): number_of(each) for key, each in metrics.items()}
    except (TypeError, ValueError):
        raise LossTermError(name, "returned what is no number", cure) from None
    if not math.isfinite(number):
        raise LossTermError(name, f"its value is {number}", "Look for log(0), overflows and empty means")
    return scalar, named


def _checked(name: str, result: Any) -> Evaluated:
    value, metrics = split(name, result)
    return Evaluated(value=number_of(value), metrics=metrics)


def _arrays(name: str, found: list[Any]) -> Gradients:
    arrays = tuple(np.asarray(plain(each).cpu() if is_torch(each) else each, dtype=np.float64) for each in found)
    if not all(np.isfinite(array).all() for array in arrays):
        raise LossTermError(name, "its gradient is not finite", "Look for roots and logarithms of 0")
    return arrays


def _total(value: Any) -> Any:
    return library_of([value]).sum(value) if getattr(value, "shape", ()) else value


def _told(error: Exception) -> str:
    return f"raised {type(error).__name__}: {error}"
