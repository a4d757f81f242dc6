"""Regularizers computed side by side, each within its own time, none able to disturb another."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, TypeAlias, cast, final

import msgspec
import trio

from tinker_actors.checks import flag, integer, number
from tinker_actors.errors import InvalidInput, LossTermError, LossTermTimeout
from tinker_actors.ports import Offload, ThreadOffload
from tinker_actors.regularizers.evaluate import Evaluated, LossFunction, evaluate, evaluate_async, is_async
from tinker_actors.regularizers.events import Announcer, LossListener
from tinker_actors.regularizers.gradient_tracker import norm_of
from tinker_actors.regularizers.targets import checked_choice
from tinker_actors.types import Datum, RegularizerOutput, RegularizerSpec

__all__ = ["checked_specs", "RegularizerExecutor", "FailurePolicy", "RegularizerResults"]

FailurePolicy: TypeAlias = Literal["report", "raise"]

# Threads of functions that never return take room among these until they do.
_THREADS = 64


class RegularizerResults(msgspec.Struct, frozen=True, kw_only=True):
    """What the regularizers gave that could be computed, in their order, and the errors of the others.

    ``evaluated`` has the same order as ``outputs``: value, metrics and, where asked for, gradients without weights.
    """

    outputs: tuple[RegularizerOutput, ...] = ()
    evaluated: tuple[Evaluated, ...] = ()
    failures: tuple[LossTermError, ...] = ()


@final
class RegularizerExecutor:
    """Computes regularizers, plain functions in threads and async ones on the loop.

    ``parallel`` ones run at once, at most ``max_concurrency`` (the machine's processors, if None); others in their
    order. Each may take ``timeout`` seconds: then it counts as failed, and its thread, which nobody can stop, is left
    behind; a function that may be long calls ``trio.from_thread.check_cancelled()`` now and then. ``on_failure``
    "report" leaves a failed one out and goes on, "raise" raises the error of the first failed one in their order.
    ``offload`` is where plain functions run, in simulations ``InlineOffload()``; ``on_event`` hears LossEvents.

    Raises InvalidInput for what is no RegularizerSpec and for two of one name.
    """

    def __init__(
        self,
        regularizers: Sequence[RegularizerSpec],
        *,
        parallel: bool = True,
        max_concurrency: int | None = None,
        timeout: float = 30.0,
        on_failure: FailurePolicy = "report",
        offload: Offload | None = None,
        on_event: LossListener | None = None,
    ) -> None:
        self.regularizers = checked_specs(regularizers)
        self._parallel = flag("parallel", parallel)
        most = (os.cpu_count() or 1) if max_concurrency is None else max_concurrency
        self._most = integer("max_concurrency", most, "Allow at least 1", low=1)
        self._timeout = number("timeout", timeout, "Give seconds, math.inf for no limit")
        if not self._timeout > 0:
            raise InvalidInput("timeout", f"{timeout} is out of range", "Give seconds, math.inf for no limit")
        checked_choice("on_failure", on_failure, ("report", "raise"))
        self._raises = on_failure == "raise"
        self._offload = offload if offload is not None else ThreadOffload(_THREADS, abandon_on_cancel=True)
        self._announcer = Announcer(on_event)

    async def run(self, data: Sequence[Datum], logprobs: Any, *, gradients: bool = False) -> RegularizerResults:
        """All regularizers at ``logprobs``, one array or tensor for each datum (or a single one).

        With ``gradients`` each output has its ``grad_norm``, from its real gradient. Raises LossTermError where
        ``on_failure`` says so; if the caller is cancelled, everything is.
        """
        outcomes: list[Evaluated | LossTermError] = []
        if self._parallel:
            outcomes = await self._at_once(data, logprobs, gradients=gradients)
        else:
            for spec in self.regularizers:
                outcomes.append(await self._one(spec, data, logprobs, gradients=gradients))
                if self._raises and isinstance(outcomes[-1], LossTermError):
                    break
        failures = tuple(outcome for outcome in outcomes if isinstance(outcome, LossTermError))
        if failures and self._raises:
            raise failures[0]
        done = [
            (spec, outcome)
            for spec, outcome in zip(self.regularizers, outcomes, strict=True)
            if isinstance(outcome, Evaluated)
        ]
        return RegularizerResults(
            outputs=tuple(_output(spec, evaluated) for spec, evaluated in done),
            evaluated=tuple(evaluated for _, evaluated in done),
            failures=failures,
        )

    async def term(
        self, name: str, function: LossFunction, data: Sequence[Datum], logprobs: Any, *, gradients: bool
    ) -> Evaluated:
        """One function within the time and the place of a regularizer. Raises LossTermError."""
        with trio.move_on_after(self._timeout):
            if is_async(function):
                return await evaluate_async(name, cast("Any", function), data, logprobs, gradients=gradients)
            return await self._offload.run(partial(evaluate, name, function, data, logprobs, gradients=gradients))
        problem = f"did not end within {self._timeout:g} s"
        raise LossTermTimeout(name, problem, "Give it more time, or have it end when check_cancelled() raises")

    async def _at_once(
        self, data: Sequence[Datum], logprobs: Any, *, gradients: bool
    ) -> list[Evaluated | LossTermError]:
        outcomes: dict[int, Evaluated | LossTermError] = {}
        room = trio.Semaphore(self._most)

        async def work(index: int, spec: RegularizerSpec) -> None:
            async with room:
                outcomes[index] = await self._one(spec, data, logprobs, gradients=gradients)

        async with trio.open_nursery() as nursery:
            for index, spec in enumerate(self.regularizers):
                nursery.start_soon(work, index, spec)
        return [outcomes[index] for index in range(len(self.regularizers))]

    async def _one(
        self, spec: RegularizerSpec, data: Sequence[Datum], logprobs: Any, *, gradients: bool
    ) -> Evaluated | LossTermError:
        about = {"regularizer_name": spec.name, "weight": spec.weight, "async": is_async(spec.fn) or spec.is_async}
        self._announcer.tell("regularizer.compute.start", {}, about)
        began = trio.current_time()
        try:
            evaluated = await self.term(spec.name, _function_of(spec), data, logprobs, gradients=gradients)
        except LossTermError as error:
            duration = {"duration": trio.current_time() - began}
            self._announcer.tell("regularizer.compute.exception", duration, about | {"reason": str(error)})
            return error
        output = _output(spec, evaluated)
        measured = {
            "duration": trio.current_time() - began,
            "value": output.value,
            "contribution": output.contribution,
        }
        if output.grad_norm is not None:
            measured["grad_norm"] = output.grad_norm
        self._announcer.tell("regularizer.compute.stop", measured, about)
        return evaluated


def _function_of(spec: RegularizerSpec) -> LossFunction:
    if not spec.is_async or is_async(spec.fn):
        return spec.fn

    async def awaited(data: Sequence[Datum], logprobs: Any) -> Any:  # a plain function that returns an awaitable
        return await spec.fn(data, logprobs)

    return awaited


def _output(spec: RegularizerSpec, evaluated: Evaluated) -> RegularizerOutput:
    norm = None if evaluated.gradients is None else norm_of(evaluated.gradients)
    return RegularizerOutput(
        name=spec.name, value=evaluated.value, weight=spec.weight, grad_norm=norm, custom=evaluated.metrics
    )


def checked_specs(regularizers: Sequence[RegularizerSpec]) -> tuple[RegularizerSpec, ...]:
    """``regularizers``, if each is one and no two have one name; else InvalidInput."""
    given: Any = regularizers
    if not isinstance(given, Sequence):
        raise InvalidInput("regularizers", "is no list", "Give RegularizerSpecs")
    names: set[str] = set()
    for index, spec in enumerate(cast("Sequence[Any]", given)):
        if not isinstance(spec, RegularizerSpec):
            problem = f"is of type {type(spec).__name__}"
            raise InvalidInput(
                f"regularizers[{index}]", problem, "Give RegularizerSpec(fn=..., weight=..., name=...)"
            )
        if spec.name in names:
            raise InvalidInput(f"regularizers[{index}]", f"is the second one named {spec.name!r}", "Name each anew")
        names.add(spec.name)
    return tuple(cast("Sequence[RegularizerSpec]", given))
