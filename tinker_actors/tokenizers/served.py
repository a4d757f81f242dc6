"""The name of a tokenizer as a server gives it: one on the Hugging Face hub, never a path on this machine."""

from __future__ import annotations

import re
from typing import Final

from tinker_actors.errors import InvalidInput
from tinker_actors.tokenizers.names import tokenizer_name
from tinker_actors.types import GetInfoResponse

__all__ = ["served_name", "tokenizer_name_of"]

_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_HUB: Final = re.compile(rf"{_PART}(?:/{_PART})?")
_LONGEST: Final = 96  # as the hub has it
_CURE: Final = "Load it yourself with tokenizer_for(), from a folder or by its name on the hub"


def served_name(info: GetInfoResponse) -> str:
    """The name on the hub of the tokenizer of the model that ``info`` describes.

    ``tokenizer_id`` comes before ``model_name``; both lose a revision, which begins at the first colon (WIRE 2.2). Of
    a model's name with three parts the first two count, and Llama 3 has a tokenizer of another name. Raises
    InvalidInput, naming the model, where the server gives no such name: it must not choose what is read here.
    """
    name = info.tokenizer_id
    if not name:
        name = tokenizer_name(info.model_data.model_name or "")
    if not name:
        raise InvalidInput("tokenizer", f"the server names none for model {info.model_id!r}", _CURE)
    return _on_the_hub(name, f"the server names {name[:_LONGEST]!r} for model {info.model_id!r}")


def tokenizer_name_of(base_model: str) -> str:
    """The name on the hub of the tokenizer of ``base_model``. Raises InvalidInput where that can't be one."""
    return _on_the_hub(tokenizer_name(base_model), f"the base model is {base_model[:_LONGEST]!r}")


def _on_the_hub(name: str, told: str) -> str:
    if len(name) > _LONGEST or ".." in name or _HUB.fullmatch(name) is None:
        raise InvalidInput("tokenizer", f"{told}, which is no name on the hub", _CURE)
    return name
