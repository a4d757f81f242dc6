"""How the results of an operation's chunks become one result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import msgspec

from tinker_actors.ledger import LocalLoss
from tinker_actors.types import ForwardBackwardOutput, TensorData

__all__ = ["combine_outputs", "reduce_metrics", "with_local_loss"]

_Reduction = Callable[[Sequence[float], Sequence[float]], float]


def combine_outputs(outputs: Sequence[ForwardBackwardOutput]) -> ForwardBackwardOutput:
    """One output for all chunks: records in chunk order, metrics reduced by the rule in their names."""
    records: list[dict[str, TensorData]] = [dict(r) for output in outputs for r in output.loss_fn_outputs]
    metrics, unreduced = reduce_metrics(
        [output.metrics for output in outputs],
        [float(len(output.loss_fn_outputs)) for output in outputs],
    )
    return ForwardBackwardOutput(
        loss_fn_output_type=outputs[0].loss_fn_output_type,
        loss_fn_outputs=tuple(records),
        metrics=metrics,
        unreduced=unreduced,
    )


def with_local_loss(output: ForwardBackwardOutput, local: LocalLoss) -> ForwardBackwardOutput:
    """The result of a custom loss: its own metrics, the loss that its function gave as ``loss:sum``, and that of the
    server's surrogate as ``surrogate_loss:sum`` (WIRE 9.1).
    """
    metrics = dict(output.metrics)
    if (surrogate := metrics.pop("loss:sum", None)) is not None:
        metrics["surrogate_loss:sum"] = surrogate
    metrics.update(local.metrics)
    metrics["loss:sum"] = local.value
    return msgspec.structs.replace(output, metrics=metrics)


def reduce_metrics(
    chunks: Sequence[Mapping[str, float]], weights: Sequence[float]
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Reduce metrics named "name:reduction" over chunks; a chunk weighs its number of records.

    mean, sum, min, max, slack (max minus mean), unique (each chunk's value, later ones under key_1, key_2,
    ...) and hash2 (sum modulo 2**64) are the official SDK 0.38's (WIRE 4.4). A key that some chunk lacks is dropped,
    as there; a name without a known reduction, where the SDK raises or drops it, is kept as the first chunk's value
    and returned among the flagged ones when there are other chunks.
    """
    first, *rest = chunks
    reduced: dict[str, float] = {}
    unreduced: list[str] = []
    for key, value in first.items():
        if not all(key in metrics for metrics in rest):
            continue
        values = [value, *(metrics[key] for metrics in rest)]
        reduction = key.rpartition(":")[2]
        if reduction == "unique":
            reduced[key] = value
            reduced.update({f"{key}_{i}": v for i, v in enumerate(values[1:], 1)})
        elif reduction in _REDUCTIONS:
            reduced[key] = _REDUCTIONS[reduction](values, weights)
        else:
            reduced[key] = value
            if rest:
                unreduced.append(key)
    return reduced, tuple(unreduced)


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    total = math.fsum(weights)
    if total == 0:
        return math.nan
    return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / total


def _hash2(values: Sequence[float]) -> float:
    return float(sum(int(v) % 2**64 for v in values) % 2**64)


_REDUCTIONS: dict[str, _Reduction] = {
    "mean": _mean,
    "sum": lambda values, _: math.fsum(values),
    "min": lambda values, _: min(values),
    "max": lambda values, _: max(values),
    "slack": lambda values, weights: max(values) - _mean(values, weights),
    "hash2": lambda values, _: _hash2(values),
}
