"""The text of tokens, piece by piece as they come: the pieces together are the text of all."""

from __future__ import annotations

import codecs
from typing import Final, final

from tinker_actors.local.engine.config import TextOf
from tinker_actors.local.engine.sampling import BYTE_OFFSET

__all__ = ["TextPieces"]

_INCOMPLETE: Final = "\ufffd"


@final
class TextPieces:
    """Holds back a character until all of its tokens are there. ``text_of`` as in ``Stops``."""

    def __init__(self, text_of: TextOf | None) -> None:
        self._text_of = text_of
        self._tokens: list[int] = []
        self._given = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, token: int, *, last: bool) -> str:
        """What ``token`` adds to the text; with the ``last`` one, all that was held back."""
        if self._text_of is None:
            data = bytes((token - BYTE_OFFSET & 0xFF,)) if token >= BYTE_OFFSET else b""
            return self._decoder.decode(data, last)
        self._tokens.append(token)
        text = self._text_of(self._tokens)
        if not last:
            text = text.rstrip(_INCOMPLETE)
        piece = text[self._given :]
        self._given = max(self._given, len(text))
        return piece
