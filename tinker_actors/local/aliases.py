"""Models of any name: fresh tiny ones for a tokenizer of the user's, so that programs for a named model run here.

Such a model has the vocabulary of its tokenizer and random weights, always the same for one name and vocabulary. It
can be trained and sampled like any other; what it says makes no sense before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, cast

import tokenizers

from tinker_actors.errors import InvalidInput
from tinker_actors.local.engine import BaseModel, ModelConfig, random_base

__all__ = ["LARGEST_VOCABULARY", "read_aliases"]

LARGEST_VOCABULARY: Final = 200_000
_NO_TOKEN: Final = -1
_SPECIAL: Final = ("pad_token", "bos_token", "eos_token")
_CURE: Final = "Give a folder with the tokenizer.json of the model"


def read_aliases(aliases: Mapping[str, Path]) -> tuple[BaseModel, ...]:
    """A model for each name, with the tokenizer in its folder (``tokenizer.json``); blocks.

    The end-of-text token is the one that ``tokenizer_config.json`` or ``special_tokens_map.json`` beside it names;
    without one a sample never ends by itself. Raises InvalidInput, naming the model and its folder.
    """
    return tuple([_read(name, folder) for name, folder in aliases.items()])


def _read(name: str, folder: Path) -> BaseModel:
    file = folder / "tokenizer.json"
    if not file.is_file():
        raise InvalidInput("aliases", f"{name!r}: there is no file {file}", _CURE)
    try:
        tokenizer = tokenizers.Tokenizer.from_file(str(file))
    except Exception as error:  # noqa: BLE001  # the library raises it bare for whatever went wrong
        raise InvalidInput("aliases", f"{name!r}: {file} is no tokenizer ({error})", _CURE) from None
    # ids may have gaps: how many there are says less than the largest
    size = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=_NO_TOKEN) + 1
    if not 0 < size <= LARGEST_VOCABULARY:
        problem = f"{name!r}: the tokenizer in {folder} has {size} ids"
        raise InvalidInput("aliases", problem, f"Give one with 1 to {LARGEST_VOCABULARY}")
    pad_id, bos_id, eos_id = (_special(name, folder, tokenizer, token) for token in _SPECIAL)
    config = ModelConfig(
        name=name, vocab_size=size, d_model=16, n_layers=1, n_heads=2, d_ff=32, rope_theta=10_000.0, norm_eps=1e-5,
        max_context=2048, pad_id=pad_id, bos_id=bos_id, eos_id=eos_id,
    )  # fmt: skip
    seed = int.from_bytes(sha256(f"{name}\n{size}".encode()).digest()[:8], "little")
    base = random_base(config, seed)
    return BaseModel(
        config, base.weights, text_of=lambda tokens: tokenizer.decode(list(tokens), skip_special_tokens=False)
    )


def _special(name: str, folder: Path, tokenizer: tokenizers.Tokenizer, token: str) -> int:
    """The id of the special token that is called ``token`` in the files beside the tokenizer."""
    for file in (folder / "tokenizer_config.json", folder / "special_tokens_map.json"):
        if not file.is_file():
            continue
        try:
            found: Any = json.loads(file.read_bytes())
        except ValueError as error:
            raise InvalidInput("aliases", f"{name!r}: {file} is no JSON ({error})", "Mend or remove it") from None
        named: Any = cast("dict[str, Any]", found).get(token) if isinstance(found, dict) else None
        if isinstance(named, dict):
            named = cast("dict[str, Any]", named).get("content")
        if isinstance(named, str):
            number = tokenizer.token_to_id(named)
            if number is None:
                problem = f"{name!r}: {file} calls {named!r} its {token}, which its tokenizer does not know"
                raise InvalidInput("aliases", problem, "Give files of one model")
            return number
    return _NO_TOKEN
