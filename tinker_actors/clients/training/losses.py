"""The losses of the protocol, and whether a datum has what its loss takes, before anything is sent (WIRE 5.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import msgspec
import numpy as np

from tinker_actors.checks import text
from tinker_actors.errors import InvalidInput
from tinker_actors.types import LOSS_FNS, Datum, TensorData

__all__ = ["DocumentedLoss", "check_inputs", "check_settings", "known_loss"]

_TARGETS: Final = "target_tokens"
_LOSS_ID: Final = "loss_id"
_CLIP: Final = ("clip_low_threshold", "clip_high_threshold")


class DocumentedLoss(msgspec.Struct, frozen=True, kw_only=True):
    """What a loss needs beside the targets, and what it may have. ``many``: several targets for each position."""

    needed: tuple[str, ...]
    optional: tuple[str, ...] = ()
    many: bool = False
    spans: bool = False


# Some servers multiply each loss by weights, where they are given.
_RATIO: Final = DocumentedLoss(needed=("logprobs", "advantages"), optional=("weights",))
_CLIPPED: Final = DocumentedLoss(needed=("logprobs", "advantages"), optional=(*_CLIP, "weights"))
_DOCUMENTED: Final[Mapping[str, DocumentedLoss]] = {
    "cross_entropy": DocumentedLoss(needed=("weights",), many=True),
    "importance_sampling": _RATIO,
    "ppo": _CLIPPED,
    "cispo": _CLIPPED,
    "dro": _RATIO,
    "gspo": DocumentedLoss(needed=("logprobs", "advantages", "sequence_ratio_mask"), optional=(*_CLIP, "weights")),
    # what else the hosted one takes is not public; servers may have kept the sampler's log-probabilities
    "stable_reinforce": DocumentedLoss(
        needed=("advantages",), optional=("logprobs", "sequence_ratio_mask", *_CLIP, "weights"), spans=True
    ),
}


def known_loss(name: object, extra: tuple[str, ...]) -> str:
    """``name`` if it is a loss of the protocol, or one of ``extra``. Raises InvalidInput that lists them."""
    listed = ", ".join(dict.fromkeys((*LOSS_FNS, *extra)))
    cure = f"Use one of {listed}; name others that your server has in Config.extra_loss_fns"
    loss_fn = text("loss_fn", name, cure)
    if loss_fn not in LOSS_FNS and loss_fn not in extra:
        raise InvalidInput("loss_fn", f"{loss_fn!r} is not known", cure)
    return loss_fn


def check_settings(loss_fn: str, settings: Mapping[str, float | str]) -> None:
    """Raise InvalidInput unless a custom loss names just its id. Others' settings are the server's to judge."""
    if loss_fn == "custom" and (len(settings) != 1 or not isinstance(settings.get(_LOSS_ID), str)):
        raise InvalidInput("loss_fn_config", "does not name just a loss_id", "Give that of create_custom_loss")


def check_inputs(loss_fn: str, extra: tuple[str, ...], where: str, datum: Datum) -> None:
    """Raise InvalidInput, naming the input and what is allowed, unless ``datum`` has what ``loss_fn`` takes.

    Of a loss that is named in ``extra``, and of a custom one, the server alone knows the inputs; they are finite.
    """
    tensors = datum.loss_fn_inputs
    if _TARGETS not in tensors:
        problem = f"has no {_TARGETS!r}"
        raise InvalidInput(f"{where}.loss_fn_inputs", problem, "Give the token due after each position")
    targets = datum.tensor(_TARGETS)
    if targets.dtype != "int64":
        problem = f"is a tensor of {targets.dtype}"
        raise InvalidInput(_field(where, _TARGETS), problem, "Give token ids as int64")
    loss = None if loss_fn in extra else _DOCUMENTED.get(loss_fn)
    if loss is not None:
        _check_names(loss_fn, loss, where, datum)
        _check_targets(loss_fn, loss, where, datum, targets)
    for name in tensors:
        if name == _TARGETS:
            continue
        tensor = datum.tensor(name)
        if loss is not None:
            _check_like_targets(_field(where, name), tensor, targets)
        _check_finite(_field(where, name), tensor)


def _check_names(loss_fn: str, loss: DocumentedLoss, where: str, datum: Datum) -> None:
    given = datum.loss_fn_inputs
    for name in loss.needed:
        if name not in given:
            problem = f"has no {name!r}"
            raise InvalidInput(f"{where}.loss_fn_inputs", problem, f"{loss_fn} takes {_taken(loss)}")
    for name in given:
        if name != _TARGETS and name not in loss.needed and name not in loss.optional:
            cure = f"It takes {_taken(loss)}; other servers' inputs need the loss in Config.extra_loss_fns"
            raise InvalidInput(_field(where, name), f"is no input of {loss_fn}", cure)
    if loss.spans and datum.loss_fn_input_spans is None:
        cure = f"{loss_fn} must know which targets were sampled: say so with Datum.with_provenance"
        raise InvalidInput(f"{where}.loss_fn_input_spans", "is missing", cure)


def _check_targets(loss_fn: str, loss: DocumentedLoss, where: str, datum: Datum, targets: TensorData) -> None:
    dims, length = targets.dims, datum.model_input.known_length
    if len(dims) == 1 or (loss.many and len(dims) == 2 and dims[1] > 0):
        return  # that there is one row for each position, a Datum has seen to
    rows = "N" if length is None else str(length)
    shapes = f"[{rows}] or [{rows}, K]" if loss.many else f"[{rows}]"
    problem = f"has shape {list(dims)}"
    raise InvalidInput(_field(where, _TARGETS), problem, f"{loss_fn} takes targets of shape {shapes}")


def _check_like_targets(field: str, tensor: TensorData, targets: TensorData) -> None:
    if tensor.dtype != "float32":
        raise InvalidInput(field, f"is a tensor of {tensor.dtype}", "Give numbers as float32")
    if tensor.dims != targets.dims:
        problem = f"has shape {list(tensor.dims)}, target_tokens {list(targets.dims)}"
        raise InvalidInput(field, problem, "Give one number for each target")


def _check_finite(field: str, tensor: TensorData) -> None:
    values = tensor.values
    if tensor.dtype != "float32" or math.isfinite(np.vdot(values, values)):  # one pass, nothing made: the usual case
        return
    wrong = np.flatnonzero(~np.isfinite(values))
    if wrong.size:
        place = int(wrong[0])
        problem = f"holds {values.reshape(-1)[place]} at index {place}"
        raise InvalidInput(field, problem, "Give finite numbers")


def _field(where: str, name: str) -> str:
    return f"{where}.loss_fn_inputs[{name!r}]"


def _taken(loss: DocumentedLoss) -> str:
    optional = f", and maybe {', '.join(loss.optional)}" if loss.optional else ""
    return f"{', '.join((_TARGETS, *loss.needed))}{optional}"
