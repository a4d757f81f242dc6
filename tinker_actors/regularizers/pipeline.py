"""A loss and its regularizers as one: the weighted sum, its gradient, and what each part gave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, final

import msgspec
import trio

from tinker_actors.errors import InvalidInput, LossTermError
from tinker_actors.ports import Offload
from tinker_actors.regularizers.arrays import number_of
from tinker_actors.regularizers.evaluate import Evaluated, Gradients, LossFunction, is_async, split
from tinker_actors.regularizers.events import Announcer, LossListener
from tinker_actors.regularizers.executor import FailurePolicy, RegularizerExecutor, checked_specs
from tinker_actors.regularizers.gradient_tracker import GradientTracker
from tinker_actors.types import BaseLossOutput, CustomLossOutput, Datum, RegularizerSpec

__all__ = ["RegularizerPipeline", "RegularizedLoss", "with_regularizers"]

_BASE = "base loss"


class RegularizedLoss(msgspec.Struct, frozen=True, kw_only=True):
    """A loss with regularizers, computed.

    ``output`` has the total and its parts. ``gradients`` is that of the total by each tensor of logprobs, in its
    shape; None where it was not asked for. ``failures`` are the errors of regularizers that were left out of both.
    """

    output: CustomLossOutput
    gradients: Gradients | None = None
    failures: tuple[LossTermError, ...] = ()


@final
class RegularizerPipeline:
    """``base_loss(data, logprobs)`` and weighted regularizers.

    Functions return a scalar, or a scalar and metrics. The options are those of RegularizerExecutor. Raises
    InvalidInput for a base loss that takes no two arguments, for what is no RegularizerSpec and for two of one name.
    """

    def __init__(
        self,
        base_loss: LossFunction,
        regularizers: Sequence[RegularizerSpec] = (),
        *,
        parallel: bool = True,
        max_concurrency: int | None = None,
        timeout: float = 30.0,
        on_failure: FailurePolicy = "report",
        offload: Offload | None = None,
        on_event: LossListener | None = None,
    ) -> None:
        self._base = _checked_base(base_loss)
        self._executor = RegularizerExecutor(
            regularizers,
            parallel=parallel,
            max_concurrency=max_concurrency,
            timeout=timeout,
            on_failure=on_failure,
            offload=offload,
            on_event=on_event,
        )
        self._announcer = Announcer(on_event)

    async def run(self, data: Sequence[Datum], logprobs: Any, *, gradients: bool = False) -> RegularizedLoss:
        """The loss at ``logprobs``: one array or tensor for each datum (or a single one).

        With ``gradients`` also its gradient, and the norms of those of its parts. Raises LossTermError where the base
        loss fails, or a regularizer does and ``on_failure`` is "raise".
        """
        about: dict[str, Any] = {
            "regularizer_count": len(self._executor.regularizers),
            "track_grad_norms": gradients,
        }
        self._announcer.tell("custom_loss.start", {}, about)
        began = trio.current_time()
        try:
            base = await self._executor.term(_BASE, self._base, data, logprobs, gradients=gradients)
            results = await self._executor.run(data, logprobs, gradients=gradients)
        except (LossTermError, InvalidInput) as error:
            duration = {"duration": trio.current_time() - began}
            self._announcer.tell("custom_loss.exception", duration, about | {"reason": str(error)})
            raise
        tracker = GradientTracker()
        norm = _tracked(tracker, _BASE, base, 1.0)
        for output, evaluated in zip(results.outputs, results.evaluated, strict=True):
            _tracked(tracker, output.name, evaluated, output.weight)
        whole = CustomLossOutput(
            base_loss=BaseLossOutput(value=base.value, grad_norm=norm, custom=base.metrics),
            regularizers={output.name: output for output in results.outputs},
            total_grad_norm=tracker.total_norm if gradients else None,
        )
        measured = {
            "duration": trio.current_time() - began,
            "loss_total": whole.loss_total,
            "regularizer_total": whole.regularizer_total,
        }
        self._announcer.tell("custom_loss.stop", measured, about)
        return RegularizedLoss(
            output=whole, gradients=tracker.total if gradients else None, failures=results.failures
        )


def with_regularizers(base_loss: LossFunction, regularizers: Sequence[RegularizerSpec]) -> LossFunction:
    """``base_loss`` plus the weighted regularizers, as one function ``fn(data, logprobs) -> (loss, metrics)``.

    The sum is open to differentiation wherever its parts are, by autograd or torch, so it is a loss for whatever
    takes a custom one. Everything is computed in order, in the caller's thread; what a part raises is raised.
    Metrics: ``base_loss``, ``regularizer_total``, and of each regularizer NAME its value and ``NAME/metric``. Raises
    InvalidInput as RegularizerPipeline does, and for async functions, which need a RegularizerPipeline.
    """
    base = _checked_base(base_loss)
    specs = checked_specs(regularizers)
    for name, function in ((_BASE, base), *((spec.name, spec.fn) for spec in specs)):
        if is_async(function):
            raise InvalidInput(name, "is an async function", "Give a plain one, or use a RegularizerPipeline")

    def loss(data: Sequence[Datum], logprobs: Any) -> tuple[Any, dict[str, float]]:
        value, metrics = split(_BASE, base(data, logprobs))
        shown = {"base_loss": number_of(value), **metrics}
        total = value
        added = 0.0
        for spec in specs:
            value, metrics = split(spec.name, spec.fn(data, logprobs))
            total = total + spec.weight * value
            added += spec.weight * number_of(value)
            shown |= {spec.name: number_of(value), **{f"{spec.name}/{key}": each for key, each in metrics.items()}}
        return total, shown | {"regularizer_total": added}

    return loss


def _tracked(tracker: GradientTracker, name: str, evaluated: Evaluated, weight: float) -> float | None:
    return None if evaluated.gradients is None else tracker.add(name, evaluated.gradients, weight)


def _checked_base(base_loss: Callable[..., Any]) -> LossFunction:
    try:
        return RegularizerSpec(fn=base_loss, weight=1.0, name=_BASE).fn
    except InvalidInput as error:
        raise InvalidInput("base_loss", error.problem, error.cure) from None
