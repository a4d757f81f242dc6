"""Names of models, and the names under which the Hugging Face hub has their tokenizers."""

from __future__ import annotations

from typing import Final

__all__ = ["KIMI", "tokenizer_name"]

KIMI: Final = "moonshotai/Kimi-K2"
"""How the names of models begin whose tokenizer is one of tiktoken."""

_LLAMA_3: Final = ("meta-llama/Llama-3", "thinkingmachineslabinc/meta-llama-3-tokenizer")


def tokenizer_name(model_name: str) -> str:
    """The hub's name of the tokenizer of the model ``model_name``.

    A revision, which begins at the first colon, is no part of it. Llama 3 has a tokenizer of another name, which
    everybody may read; of a name with three parts the first two count.
    """
    name = model_name.partition(":")[0]
    if name.startswith(_LLAMA_3[0]):
        return _LLAMA_3[1]
    parts = name.split("/")
    return "/".join(parts[:2]) if len(parts) == 3 else name
