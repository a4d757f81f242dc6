"""What a regularizer looks at: the log-probabilities, the probabilities, or a field of the data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias, cast

from tinker_actors.errors import InvalidInput
from tinker_actors.regularizers.arrays import as_tensors, library_of, like
from tinker_actors.types import Datum

__all__ = ["checked_choice", "field_of", "reduced", "references", "Reduction", "RowReduction", "target_of"]

Reduction: TypeAlias = Literal["sum", "mean"]
RowReduction: TypeAlias = Literal["sum", "mean", "none"]


def target_of(target: str, data: Sequence[Datum], logprobs: Any) -> list[Any]:
    """The tensors that ``target`` names: "logprobs", "probs" (their exp), or a field of every datum's loss_fn_inputs.

    A field does not depend on the model: what is computed of it adds to the loss, and its gradient is 0.
    """
    tensors = as_tensors(logprobs)
    if target == "logprobs":
        return tensors
    if target == "probs":
        return [library_of(tensors).exp(tensor) for tensor in tensors]
    return [like(tensors[0], target, value) for value in field_of(target, data)]


def field_of(name: str, data: Sequence[Datum]) -> list[Any]:
    """The field ``name`` of each datum. Raises InvalidInput, naming the datum, where there is none."""
    if not data:
        raise InvalidInput(name, "is looked up in data, of which there is none", "Give the data of the batch")
    found: list[Any] = []
    for index, datum in enumerate(data):
        if name not in datum.loss_fn_inputs:
            there = ", ".join(datum.loss_fn_inputs) or "none"
            raise InvalidInput(name, f"is no loss input of data[{index}] (it has {there})", "Add it to every datum")
        found.append(datum.loss_fn_inputs[name])
    return found


def references(
    data: Sequence[Datum],
    logprobs: list[Any],
    *,
    given: Any = None,
    field: str | None = None,
    compute: Callable[[Sequence[Datum]], Any] | None = None,
) -> list[Any]:
    """Constants to compare ``logprobs`` with, of the same shapes: given, or of a field, or computed of the data.

    Raises InvalidInput where there are none, or a shape is another one.
    """
    if given is not None:
        found, name = as_tensors(given), "reference_logprobs"
    elif field is not None:
        found, name = field_of(field, data), field
    elif compute is not None:
        found, name = as_tensors(compute(data)), "compute_reference"
    else:
        cure = "Give reference_logprobs, reference_field or compute_reference"
        raise InvalidInput("reference", "is missing", cure)
    if len(found) != len(logprobs):
        problem = f"has {len(found)} tensors where there are {len(logprobs)} of logprobs"
        raise InvalidInput(name, problem, "Give one for each datum")
    constants = [like(tensor, name, each) for tensor, each in zip(logprobs, found, strict=True)]
    for index, (tensor, constant) in enumerate(zip(logprobs, constants, strict=True)):
        if tuple(constant.shape) != tuple(tensor.shape):
            problem = f"has shape {tuple(constant.shape)} at datum {index}, its logprobs {tuple(tensor.shape)}"
            raise InvalidInput(name, problem, "Give tensors of the shape of the logprobs")
    return constants


def reduced(tensors: Sequence[Any], reduction: str) -> Any:
    """All numbers of ``tensors`` as one: their sum or their mean; with "none" all of them in one row."""
    xp = library_of(tensors)
    if reduction == "none":
        return xp.concatenate([tensor.reshape(-1) for tensor in tensors])
    total, count = xp.sum(tensors[0]), _size(tensors[0])
    for tensor in tensors[1:]:
        total, count = total + xp.sum(tensor), count + _size(tensor)
    return total / count if reduction == "mean" else total


def _size(tensor: Any) -> int:
    size = 1
    for length in tuple(tensor.shape):
        size *= int(length)
    return size


def checked_choice(field: str, value: Any, choices: tuple[str, ...]) -> None:
    """Raises InvalidInput unless ``value`` is one of ``choices``."""
    if not isinstance(value, str) or value not in choices:
        names = ", ".join(repr(choice) for choice in choices)
        raise InvalidInput(field, f"{cast('object', value)!r} is unknown", f"Use one of {names}")
