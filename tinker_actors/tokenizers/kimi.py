"""The tokenizer of Kimi K2: a file of ranks for tiktoken, which the hub has instead of a tokenizer.json."""

from __future__ import annotations

import base64
import binascii
from importlib import import_module
from pathlib import Path
from typing import Any, Final, final

import msgspec

from tinker_actors.errors import InvalidInput

__all__ = ["CONFIG", "kimi_revision", "load_kimi", "RANKS"]

RANKS: Final = "tiktoken.model"
CONFIG: Final = "tokenizer_config.json"

_PINNED: Final = {"moonshotai/Kimi-K2-Thinking": "612681931a8c906ddb349f8ad0f582cb552189cd"}
_SPECIAL: Final = 256  # ids after the base vocabulary

_NO_HAN: Final = r"(?!\p{Han})"
_UPPER: Final = rf"(?:{_NO_HAN}[\p{{Lu}}\p{{Lt}}\p{{Lm}}\p{{Lo}}\p{{M}}])"
_LOWER: Final = rf"(?:{_NO_HAN}[\p{{Ll}}\p{{Lm}}\p{{Lo}}\p{{M}}])"
_LEAD: Final = r"[^\r\n\p{L}\p{N}]?"
_CONTRACTION: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
# Runs of Han; words in either case; up to three digits; punctuation; the ends of lines; spaces.
_PATTERN: Final = "|".join(
    (
        r"\p{Han}+",
        rf"{_LEAD}{_UPPER}*{_LOWER}+{_CONTRACTION}",
        rf"{_LEAD}{_UPPER}+{_LOWER}*{_CONTRACTION}",
        r"\p{N}{1,3}",
        r" ?[^\s\p{L}\p{N}]+[\r\n]*",
        r"\s*[\r\n]+",
        r"\s+(?!\S)",
        r"\s+",
    )
)


class _Added(msgspec.Struct, frozen=True):
    content: str


class _Config(msgspec.Struct, frozen=True):
    added_tokens_decoder: dict[str, _Added] = {}


def kimi_revision(name: str) -> str | None:
    """The revision that is known to be right for the model ``name``; None for the newest."""
    return _PINNED.get(name)


def load_kimi(ranks: Path, config: Path) -> KimiTokenizer:
    """The tokenizer of a file of ranks ("base64 rank" for each token) and a tokenizer_config.json; blocking.

    Raises InvalidInput for files that are not of this form, and where tiktoken is not installed.
    """
    try:
        tiktoken: Any = import_module("tiktoken")
    except ImportError:
        raise InvalidInput(
            "tokenizer", "Kimi's needs tiktoken, which is not installed", "Install tinker-actors[kimi]"
        ) from None
    vocabulary = _read_ranks(ranks)
    try:
        named = msgspec.json.decode(config.read_bytes(), type=_Config).added_tokens_decoder
    except (OSError, msgspec.DecodeError) as error:
        raise InvalidInput("tokenizer", f"{config} can't be read ({error})", "Download it again") from None
    first = len(vocabulary)
    special: dict[str, int] = {}
    for id_ in range(first, first + _SPECIAL):
        added = named.get(str(id_))
        special[f"<|reserved_token_{id_}|>" if added is None else added.content] = id_
    try:
        inner = tiktoken.Encoding("kimi", pat_str=_PATTERN, mergeable_ranks=vocabulary, special_tokens=special)
    except ValueError as error:
        raise InvalidInput("tokenizer", f"{ranks} is no vocabulary ({error})", "Download it again") from None
    return KimiTokenizer(inner, special)


def _read_ranks(path: Path) -> dict[bytes, int]:
    found: dict[bytes, int] = {}
    try:
        for number, line in enumerate(path.read_bytes().splitlines(), 1):
            if not line:
                continue
            try:
                token, rank = line.split()
                found[base64.b64decode(token, validate=True)] = int(rank)
            except (ValueError, binascii.Error):
                problem = f"line {number} of {path} is no token with its rank"
                raise InvalidInput("tokenizer", problem, "Download it again") from None
    except OSError as error:
        raise InvalidInput("tokenizer", f"{path} can't be read ({error.strerror})", "Give a file") from None
    if sorted(found.values()) != list(range(len(found))) or not found:
        raise InvalidInput("tokenizer", f"{path} leaves ranks out", "Download it again")
    return found


@final
class KimiTokenizer:
    """What Tokenizer asks of a library, answered by tiktoken."""

    def __init__(self, inner: Any, special: dict[str, int]) -> None:
        self._inner = inner
        self._special = special
        self._first_special: int = inner.n_vocab - len(special)

    def __getstate__(self) -> Any:
        return (self._inner._pat_str, self._inner._mergeable_ranks, self._special)  # noqa: SLF001

    def __setstate__(self, state: Any) -> None:
        tiktoken: Any = import_module("tiktoken")
        pattern, ranks, special = state
        inner = tiktoken.Encoding("kimi", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
        self.__init__(inner, special)

    @property
    def vocab_size(self) -> int:
        """How many ids there are."""
        return int(self._inner.n_vocab)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """The ids; special tokens that are written out in the text are taken for what they are."""
        del add_special_tokens  # there are none that stand before or behind each text
        return list(self._inner.encode(text, allowed_special="all", disallowed_special=()))

    def decode(self, tokens: list[int], *, skip_special_tokens: bool) -> str:
        """The text of those ids that have one."""
        end = self._first_special if skip_special_tokens else self.vocab_size
        return str(self._inner.decode([token for token in tokens if 0 <= _int(token) < end]))

    def token_to_id(self, token: str) -> int | None:
        """The id of one token."""
        if token in self._special:
            return self._special[token]
        return self._inner._mergeable_ranks.get(token.encode())  # noqa: SLF001


def _int(token: Any) -> int:
    if not isinstance(token, int):
        raise TypeError
    if token < 0:
        raise OverflowError
    return token
