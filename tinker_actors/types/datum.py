"""One training example: an input and the tensors that its loss needs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import msgspec
import numpy as np

from tinker_actors.checks import text
from tinker_actors.errors import InvalidInput
from tinker_actors.types.model_input import ModelInput
from tinker_actors.types.provenance import ProvenanceSpans, spans_of
from tinker_actors.types.tensor import TensorArray, TensorData, TensorDtype
from tinker_actors.types.torch import is_torch

__all__ = ["Datum", "LossInput"]

LossInput: TypeAlias = TensorData | TensorArray | Sequence[float] | Sequence[int]

# The official SDK converts plain lists under these keys and wants a TensorData under any other.
_DTYPES: dict[str, TensorDtype] = {
    "target_tokens": "int64",
    "weights": "float32",
    "advantages": "float32",
    "logprobs": "float32",
    "clip_low_threshold": "float32",
    "clip_high_threshold": "float32",
    "sequence_ratio_mask": "float32",
}
_SPARSE = ("target_tokens", "weights")


class Datum(msgspec.Struct, frozen=True):
    """One training example.

    ``loss_fn_inputs`` maps names to tensors. Lists and arrays are converted once, here: ``target_tokens`` to
    int64; ``weights``, ``advantages``, ``logprobs`` and the clip thresholds to float32. ``target_tokens[i]`` is
    the token to be predicted after input position i, so every per-token tensor has the input's length (or shape
    [length, K]). They are kept in the order of their names. The spans, both rows of them or none, say where the
    input's tokens and the targets came from (see ``with_provenance``). Raises InvalidInput, naming the key, when a
    tensor has another length.
    """

    model_input: ModelInput
    loss_fn_inputs: Mapping[str, LossInput]
    model_input_spans: ProvenanceSpans | None = None
    loss_fn_input_spans: ProvenanceSpans | None = None

    def __post_init__(self) -> None:
        given: Any = self.model_input
        if not isinstance(given, ModelInput):
            raise InvalidInput("model_input", "is not a ModelInput", "Use ModelInput.from_ints(tokens)")
        given = self.loss_fn_inputs
        if not isinstance(given, Mapping):
            raise InvalidInput("loss_fn_inputs", "is not a mapping", "Give a dict of names and tensors")
        for key in cast("Mapping[Any, Any]", given):
            text("loss_fn_inputs's keys", key, "Give the names that the loss function knows")
        length = self.model_input.known_length
        if length == 0 or not self.model_input.chunks:
            raise InvalidInput("model_input", "is empty", "Give at least one token")
        tensors: dict[str, TensorData] = {}
        for key, value in sorted(self.loss_fn_inputs.items()):
            tensors[key] = tensor = _tensor(key, value)
            shape = tensor.dims
            if key in _DTYPES and (not shape or (length is not None and shape[0] != length)):
                raise InvalidInput(
                    f"loss_fn_inputs[{key!r}]",
                    f"has {shape[0] if shape else 'no'} rows for an input of {length} tokens",
                    "Give one value for each input position; targets are shifted by one beforehand",
                )
        msgspec.structs.force_setattr(self, "loss_fn_inputs", tensors)
        if self.model_input_spans is not None or self.loss_fn_input_spans is not None:
            self._check_spans(length)

    def with_provenance(self, *, model_input: ProvenanceSpans, loss_fn_inputs: ProvenanceSpans) -> Datum:
        """The same datum, saying where its tokens came from.

        The spans of ``model_input`` tile the input's tokens, those of ``loss_fn_inputs`` the ``target_tokens``: in
        order, each position in one of them. Raises InvalidInput where they don't.
        """
        return msgspec.structs.replace(self, model_input_spans=model_input, loss_fn_input_spans=loss_fn_inputs)

    def tensor(self, key: str) -> TensorData:
        """The tensor under ``key``; KeyError when there is none."""
        value = self.loss_fn_inputs[key]
        assert isinstance(value, TensorData)
        return value

    def tensors(self) -> dict[str, TensorData]:
        """All loss inputs by name."""
        return {key: self.tensor(key) for key in self.loss_fn_inputs}

    def _check_spans(self, length: int | None) -> None:
        targets = self.loss_fn_inputs.get("target_tokens")
        rows = targets.dims[0] if isinstance(targets, TensorData) else None
        for field, positions, what in (
            ("model_input_spans", length, "the input"),
            ("loss_fn_input_spans", rows, "target_tokens"),
        ):
            given = getattr(self, field)
            if given is None:
                raise InvalidInput(field, "is missing", "Give both rows of spans, or none")
            msgspec.structs.force_setattr(self, field, spans_of(field, given, positions, what))


def _tensor(key: str, value: LossInput) -> TensorData:
    if isinstance(value, TensorData):
        return value
    if is_torch(value):
        tensor = TensorData(value, _DTYPES.get(key))
        # as the official SDK does: many targets for each position are mostly padding
        return TensorData.from_dense(tensor.values) if key in _SPARSE and len(tensor.dims) == 2 else tensor
    if not isinstance(value, np.ndarray) and key not in _DTYPES:
        raise InvalidInput(
            f"loss_fn_inputs[{key!r}]",
            "is a list under a name that is not known",
            f"{_meant(key)}wrap it in TensorData(data, dtype)",
        )
    try:
        return TensorData(value, _DTYPES.get(key))
    except (InvalidInput, ValueError, TypeError) as error:
        problem = error.problem if isinstance(error, InvalidInput) else "is not a tensor of numbers"
        numbers = "whole numbers" if _DTYPES.get(key) == "int64" else "numbers"
        raise InvalidInput(f"loss_fn_inputs[{key!r}]", problem, f"Give a flat list or array of {numbers}") from error


def _meant(key: str) -> str:
    near = difflib.get_close_matches(key, _DTYPES, n=1)
    return f"Did you mean {near[0]!r}? Else " if near else f"Use one of {', '.join(_DTYPES)}, or "
