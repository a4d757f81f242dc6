"""Where a model's tokenizer comes from: the package, a file or folder, or the Hugging Face hub."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import final

import tokenizers

from tinker_actors.checks import text as checked_text
from tinker_actors.config import Secret
from tinker_actors.errors import InvalidInput

__all__ = ["Tokenizer", "named_tokenizer", "tokenizer_for"]

# The models that the package ships with share one tokenizer of bytes.
_PACKAGED = "tinker-actors/"


@final
class Tokenizer:
    """Text to token ids and back."""

    def __init__(self, inner: tokenizers.Tokenizer) -> None:
        self._inner = inner

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return self._inner.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, *, add_special_tokens: bool = False) -> list[int]:
        """The ids of ``text``. Raises InvalidInput for anything but a string."""
        text = checked_text("text", text, "Give a string", empty=True)
        return list(self._inner.encode(text, add_special_tokens=add_special_tokens).ids)

    def decode(self, tokens: list[int], *, skip_special_tokens: bool = True) -> str:
        """The text of ``tokens``; ids beyond the vocabulary have none. Raises InvalidInput for what are no ids."""
        try:
            return self._inner.decode(tokens, skip_special_tokens=skip_special_tokens)
        except (TypeError, OverflowError):
            raise InvalidInput("tokens", "is not a flat list of ids", "Give those of a sampled sequence") from None

    def token_to_id(self, token: str) -> int | None:
        """The id of one token of the vocabulary, such as "<bos>"; None when there is none."""
        return self._inner.token_to_id(token)


def tokenizer_for(name: str, token: Secret | None = None) -> Tokenizer:
    """The tokenizer of the model ``name``, or of a file or folder; blocking.

    ``token`` is shown to the Hugging Face hub, and only where the tokenizer is neither packaged nor a file. Raises
    InvalidInput when there is none to be had.
    """
    name = checked_text("tokenizer", name, "Give a folder with a tokenizer.json, or a name on the hub")
    return _load(name, token, _file_of(name))


def named_tokenizer(name: str, token: Secret | None = None) -> Tokenizer:
    """As ``tokenizer_for``, but never from this machine's files: for names that others have chosen."""
    return _load(name, token, None)


def _file_of(name: str) -> Path | None:
    path = Path(name)
    if path.is_dir():
        path = path / "tokenizer.json"
    return path if path.is_file() else None


def _load(name: str, token: Secret | None, file: Path | None) -> Tokenizer:
    if name.startswith(_PACKAGED):
        data = files("tinker_actors").joinpath("local", "base", "tokenizer.json").read_text("utf-8")
        return Tokenizer(tokenizers.Tokenizer.from_str(data))
    try:
        if file is not None:
            return Tokenizer(tokenizers.Tokenizer.from_file(str(file)))
        shown = None if token is None else token.reveal()
        return Tokenizer(tokenizers.Tokenizer.from_pretrained(name, token=shown))
    except Exception as error:  # noqa: BLE001  # the library raises it bare for whatever went wrong
        reason = str(error) if token is None else str(error).replace(token.reveal(), "[hidden]")
    # outside of the handler: that error may quote the token
    raise InvalidInput("tokenizer", f"there is none for {name!r} ({reason})", "Give a folder with a tokenizer.json")
