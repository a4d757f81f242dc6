"""The name of a tokenizer as a server gives it: one on the Hugging Face hub, never a path on this machine."""

from __future__ import annotations

import re
from typing import Final

from tinker_actors.errors import InvalidInput
from tinker_actors.types import GetInfoResponse

__all__ = ["served_name"]

_PART: Final = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
_HUB: Final = re.compile(rf"{_PART}(?:/{_PART})?")
_LONGEST: Final = 96  # as the hub has it
_LLAMA_3: Final = ("meta-llama/Llama-3", "thinkingmachineslabinc/meta-llama-3-tokenizer")


def served_name(info: GetInfoResponse) -> str:
    """The name on the hub of the tokenizer of the model that ``info`` describes.

    ``tokenizer_id`` comes before ``model_name``; both lose a revision, which begins at the first colon (WIRE 2.2). Of
    a model's name with three parts the first two count, and Llama 3 has a tokenizer of another name. Raises
    InvalidInput, naming the model, where the server gives no such name: it must not choose what is read here.
    """
    name = info.tokenizer_id
    if not name:
        name = _of_model((info.model_data.model_name or "").partition(":")[0])
    cure = "Load it yourself with tokenizer_for(), from a folder or by its name on the hub"
    if not name:
        raise InvalidInput("tokenizer", f"the server names none for model {info.model_id!r}", cure)
    if len(name) > _LONGEST or ".." in name or _HUB.fullmatch(name) is None:
        problem = f"the server names {name[:_LONGEST]!r} for model {info.model_id!r}, which is no name on the hub"
        raise InvalidInput("tokenizer", problem, cure)
    return name


def _of_model(name: str) -> str:
    if name.startswith(_LLAMA_3[0]):
        return _LLAMA_3[1]
    parts = name.split("/")
    return "/".join(parts[:2]) if len(parts) == 3 else name
