"""A datum's tensors: whether they are what a loss needs, and as arrays of one shape.

A position has one target, or K of them: then ``target_tokens`` and what goes with it are [N, K], dense or in
compressed sparse rows whose unlisted entries are 0 (WIRE 5.3).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np

from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine.losses.loss import Loss, Objective
from tinker_actors.types.datum import Datum
from tinker_actors.types.provenance import SampledProvenanceSpan
from tinker_actors.types.tensor import FloatArray, IntArray, TensorData

__all__ = ["check_inputs", "read_inputs"]

_TARGETS: Final = "target_tokens"
_LOGPROBS: Final = "logprobs"  # in a custom loss the model's own, in the targets' shape
_MOST_TARGETS: Final = 1 << 22  # of one datum: a sparse tensor of a few bytes can be of any shape


def check_inputs(objective: Objective, datum: Datum, vocab_size: int, where: str) -> None:
    """Raise InvalidInput, naming the input, unless ``datum`` has what the loss needs: finite, for each target one."""
    loss_fn, loss, settings = objective
    needed = (_TARGETS, *loss.inputs)
    for key in needed:
        if key not in datum.loss_fn_inputs:
            raise InvalidInput(
                f"{where}.loss_fn_inputs", f"{key!r} is missing", f"{loss_fn} needs {', '.join(needed)}"
            )
    targets = datum.tensor(_TARGETS)
    field = f"{where}.loss_fn_inputs[{_TARGETS!r}]"
    _check_shape(field, targets, datum.model_input.length, many=loss.many_targets, most=vocab_size)
    _check_targets(field, targets, vocab_size)
    if loss.ranks is not None:
        _check_ranks(loss.ranks, datum, where)
        return
    for key in datum.loss_fn_inputs:
        field = f"{where}.loss_fn_inputs[{key!r}]"
        if key not in needed and key not in loss.optional:
            raise InvalidInput(
                field, f"is no input of {loss_fn}", f"Give only {', '.join((*needed, *loss.optional))}"
            )
        tensor = datum.tensor(key)
        if tensor.dims != targets.dims:
            problem = f"has shape {list(tensor.dims)}, target_tokens {list(targets.dims)}"
            raise InvalidInput(field, problem, "Give one number for each target")
        if key == _TARGETS:
            continue
        if tensor.dtype != "float32":
            raise InvalidInput(field, "is a tensor of integers", "Give numbers as float32")
        if not np.isfinite(tensor.values).all():
            raise InvalidInput(field, "holds a value that is not finite", "Give finite numbers")
    if loss.sampled and datum.loss_fn_input_spans is None:
        cure = f"{loss_fn} must know which targets were sampled: say so with Datum.with_provenance"
        raise InvalidInput(f"{where}.loss_fn_input_spans", "is missing", cure)
    if loss.check is None:
        return
    try:
        loss.check(read_inputs(loss, datum, np.dtype(np.float32))[1], settings)
    except InvalidInput as error:
        raise InvalidInput(f"{where}.loss_fn_inputs[{error.field!r}]", error.problem, error.cure) from None


def read_inputs(loss: Loss, datum: Datum, dtype: np.dtype[np.float32]) -> tuple[IntArray, dict[str, FloatArray]]:
    """The targets, [N] or [N, K], and the other inputs in their shape, as ``dtype``."""
    keys = loss.inputs if loss.ranks is not None else [key for key in datum.loss_fn_inputs if key != _TARGETS]
    inputs = {key: datum.tensor(key).to_numpy().astype(dtype, copy=False) for key in keys}
    if loss.sampled:
        inputs["sampled"] = _sampled(datum, dtype)
    return datum.tensor(_TARGETS).to_numpy().astype(np.int64, copy=False), inputs


def _check_ranks(ranks: Mapping[str, int], datum: Datum, where: str) -> None:
    for key, rank in ranks.items():
        name = _TARGETS if key == _LOGPROBS else key
        field = f"{where}.loss_fn_inputs[{name!r}]"
        tensor = datum.tensor(name)
        if len(tensor.dims) != rank:
            raise InvalidInput(field, f"has {len(tensor.dims)} dimensions", f"The loss declares {key} with {rank}")
        if math.prod(tensor.dims) > _MOST_TARGETS:
            raise InvalidInput(field, f"holds {math.prod(tensor.dims)} values", f"Give at most {_MOST_TARGETS}")
        if not np.isfinite(tensor.values).all():
            raise InvalidInput(field, "holds a value that is not finite", "Give finite numbers")


def _check_shape(field: str, tensor: TensorData, length: int, *, many: bool, most: int) -> None:
    dims = tensor.dims
    if len(dims) != 1 and not (many and len(dims) == 2):
        allowed = f"[{length}] or [{length}, K]" if many else f"[{length}]"
        raise InvalidInput(field, f"has {len(dims)} dimensions", f"Give a tensor of shape {allowed}")
    if dims[0] != length:
        raise InvalidInput(field, f"has {dims[0]} rows for {length} tokens", "Give one for each position")
    if len(dims) == 2 and not 1 <= dims[1] <= min(most, _MOST_TARGETS // length):
        allowed = f"Give at least one, and at most {min(most, _MOST_TARGETS // length)}"
        raise InvalidInput(field, f"has {dims[1]} targets for each position", allowed)


def _check_targets(field: str, tensor: TensorData, vocab_size: int) -> None:
    if tensor.dtype != "int64":
        raise InvalidInput(field, "is not a tensor of integers", "Give token ids as int64")
    values = tensor.values  # of a sparse one those that are listed; the others are token 0
    wrong = (values < 0) | (values >= vocab_size)
    if wrong.any():
        bad = int(values[wrong][0])
        raise InvalidInput(field, f"token {bad} is outside the vocabulary of {vocab_size}", "Check the tokenizer")


def _sampled(datum: Datum, dtype: np.dtype[np.float32]) -> FloatArray:
    marks = np.zeros(datum.model_input.length, dtype)
    start = 0
    for span in datum.loss_fn_input_spans or ():
        if isinstance(span, SampledProvenanceSpan):
            marks[start : start + span.length] = 1.0
        start += span.length
    return marks
