"""Custom losses: a function of the user's between a forward and a backward pass (WIRE 9.1).

The server computes log-probabilities, the function gives a loss of them and its gradient here, and the server's own
cross_entropy with the weights ``-gradient`` applies it: its loss ``-sum(weights * logprobs)`` has that gradient.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, TypeAlias, cast, final, get_args

import numpy as np
import trio

from tinker_actors.checks import number
from tinker_actors.clients.training.operations import backward_chunk
from tinker_actors.errors import InvalidInput, LossTermError, LossTermTimeout
from tinker_actors.ledger import Chunk, LocalLoss, Operation
from tinker_actors.ports import Offload
from tinker_actors.regularizers.evaluate import Evaluated, evaluate, evaluate_async, is_async, split
from tinker_actors.types import Datum, ForwardBackwardOutput, TensorArray, TensorData
from tinker_actors.types.torch import torch_of_array

__all__ = ["CustomLoss", "Differentiation", "LOSS_TIMEOUT", "differentiated", "logprobs_of"]

Differentiation: TypeAlias = Literal["torch", "autograd", "own"]

LOSS_TIMEOUT = 600.0
"""Seconds that a function may take, where nothing else is said."""

_NAME = "custom loss"


@final
class CustomLoss:
    """A function of the user's, with the data that it is called with. Raises InvalidInput for what can't be one."""

    def __init__(
        self,
        function: Any,
        data: Sequence[Datum],
        differentiation: Differentiation | None,
        timeout: float,
    ) -> None:
        if not callable(function):
            problem = f"{function!r} can't be called"
            raise InvalidInput(
                "loss_fn", problem, "Give fn(data, logprobs) that returns a loss and a dict of metrics"
            )
        if differentiation is None:
            differentiation = "torch" if "torch" in sys.modules else "autograd"
        if differentiation not in get_args(Differentiation):
            raise InvalidInput("differentiation", f"{differentiation!r} is none", 'Use "torch", "autograd" or "own"')
        if differentiation == "torch":
            torch_of_array(np.zeros(1, np.float32))  # says so where there is no torch
        cure = "Give the seconds that the function may take"
        self._timeout = number("loss_timeout", timeout, cure)
        if not self._timeout > 0:
            raise InvalidInput("loss_timeout", f"{timeout} is not positive", cure)
        self._function: Any = function
        self._data = tuple(data)
        self._differentiation = differentiation

    async def evaluate(self, logprobs: list[TensorArray], offload: Offload) -> Evaluated:
        """Its value, metrics and gradients at ``logprobs``, one array for each datum.

        A plain function runs in a thread of its own, left behind when it is late. Raises LossTermError for what the
        function does wrong, and LossTermTimeout.
        """
        with trio.move_on_after(self._timeout):
            if is_async(self._function):
                return await self._async(logprobs)
            return await offload.apart().run(partial(self._plain, logprobs))
        raise LossTermTimeout(
            _NAME, f"was not through after {self._timeout:g} s", "Make it faster, or allow it longer"
        )

    def _plain(self, logprobs: list[TensorArray]) -> Evaluated:
        if self._differentiation == "own":
            try:
                given = self._function(self._data, logprobs)
            except Exception as error:
                raise _raised(error) from error
            return _own(given, logprobs)
        return evaluate(_NAME, self._function, self._data, self._inputs(logprobs), gradients=True)

    async def _async(self, logprobs: list[TensorArray]) -> Evaluated:
        if self._differentiation == "own":
            try:
                given = await self._function(self._data, logprobs)
            except Exception as error:
                raise _raised(error) from error
            return _own(given, logprobs)
        return await evaluate_async(_NAME, self._function, self._data, self._inputs(logprobs), gradients=True)

    def _inputs(self, logprobs: list[TensorArray]) -> list[Any]:
        if self._differentiation == "torch":
            return [torch_of_array(array) for array in logprobs]
        return list[Any](logprobs)


def differentiated(operation: Operation, evaluated: Evaluated) -> tuple[tuple[Chunk, ...], LocalLoss]:
    """The backward chunks of ``operation``, with its boundaries and the weights ``-gradient``, and its own metrics.

    Raises LossTermError for gradients that are not those of its data.
    """
    gradients = iter(evaluated.gradients or ())
    chunks = tuple(backward_chunk(chunk, gradients) for chunk in operation.chunks)
    return chunks, LocalLoss(value=evaluated.value, metrics=evaluated.metrics)


def logprobs_of(results: Sequence[ForwardBackwardOutput]) -> list[TensorArray]:
    """The log-probabilities of each datum, in order. Raises LossTermError where the server gives none."""
    found: list[TensorArray] = []
    for result in results:
        for record in result.loss_fn_outputs:
            tensor = record.get("logprobs")
            if tensor is None:
                given = ", ".join(sorted(record)) or "nothing"
                raise LossTermError(_NAME, f"the server gives {given} and no logprobs", "Ask the server's operator")
            found.append(cast("TensorArray", tensor.data))
    return found


def _own(given: Any, logprobs: list[TensorArray]) -> Evaluated:
    cure = "Return (loss, gradients) or (loss, gradients, metrics), with one array for each datum"
    parts: Any = cast("Any", given) if isinstance(given, tuple) else ()
    if len(parts) not in (2, 3) or not isinstance(parts[1], (list, tuple)):
        raise LossTermError(_NAME, "returned no loss with its gradients", cure)
    value, metrics = split(_NAME, (parts[0], parts[2] if len(parts) == 3 else {}))
    rows = cast("Sequence[Any]", parts[1])
    if len(rows) != len(logprobs):
        raise LossTermError(_NAME, f"returned {len(rows)} gradients for {len(logprobs)} datums", cure)
    gradients: list[Any] = []
    for index, (row, of) in enumerate(zip(rows, logprobs, strict=True)):
        try:
            array = np.asarray(row.data if isinstance(row, TensorData) else row, dtype=np.float64)
        except (TypeError, ValueError):
            raise LossTermError(_NAME, f"its gradient {index} is no array of numbers", cure) from None
        if array.shape != of.shape:
            problem = f"its gradient {index} has the shape {array.shape}, the logprobs have {of.shape}"
            raise LossTermError(_NAME, problem, cure)
        if not np.isfinite(array).all():
            raise LossTermError(_NAME, f"its gradient {index} is not finite", "Look for roots and logarithms of 0")
        gradients.append(array)
    return Evaluated(value=float(value), metrics=metrics, gradients=tuple(gradients))


def _raised(error: Exception) -> LossTermError:
    return LossTermError(_NAME, f"raised {type(error).__name__}: {error}", "Mend the function")
