"""What a model reads: a row of chunks of text, images and audio."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeAlias, cast

import msgspec
import numpy as np

from tinker_actors.errors import InvalidInput
from tinker_actors.types.dmel import DmelChunk
from tinker_actors.types.images import ImageAssetPointerChunk, ImageChunk
from tinker_actors.types.integers import INT32, first_outside
from tinker_actors.types.lists import int32_list
from tinker_actors.types.tensor import TokenArray
from tinker_actors.types.torch import array_of_torch, is_torch

__all__ = ["EncodedTextChunk", "ModelInput", "ModelInputChunk"]


class EncodedTextChunk(msgspec.Struct, frozen=True, eq=False, tag="encoded_text"):
    """Token ids, given as a list or array of integers and kept as a read-only int32 array."""

    tokens: TokenArray | Sequence[int]

    def __post_init__(self) -> None:
        kept = int32_list(self.tokens)
        if kept is None:
            kept = _looked_into(self.tokens)
        elif int(kept.min()) < 0:
            raise _out_of_range(kept)
        if kept is self.tokens:
            kept = kept.view()
        kept.flags.writeable = False
        msgspec.structs.force_setattr(self, "tokens", kept)

    @property
    def array(self) -> TokenArray:
        """The ids, int32, shape [length]."""
        assert isinstance(self.tokens, np.ndarray)
        return self.tokens

    @property
    def length(self) -> int:
        """Number of tokens."""
        return int(self.array.size)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, EncodedTextChunk) and bool(np.array_equal(self.array, other.array))

    def __hash__(self) -> int:
        return hash(self.array.tobytes())

    def __repr__(self) -> str:
        return f"EncodedTextChunk({self.length} tokens)"


_NOT_FLAT = "is not a flat list of integers", "Give the ids that the tokenizer returns"


def _out_of_range(given: Any) -> InvalidInput:
    place = first_outside(given, 0, INT32[1])
    problem = f"holds an id outside 0 ... 2**31 - 1: {place}"
    return InvalidInput("tokens", problem, "Give the ids that the tokenizer returns")


def _looked_into(given: Any) -> TokenArray:
    if is_torch(given):
        given = array_of_torch("tokens", given)
    try:
        array = np.asarray(given)
    except (ValueError, TypeError) as error:  # ragged, or of strange objects
        raise InvalidInput("tokens", *_NOT_FLAT) from error
    if array.ndim == 1 and array.size and array.dtype.kind in "fO" and first_outside(given, 0, INT32[1]):
        raise _out_of_range(given)  # beyond 64 bits, where numpy knows no integers
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidInput("tokens", *_NOT_FLAT)
    if array.size and (int(array.min()) < 0 or int(array.max()) > 2**31 - 1):
        raise _out_of_range(array)
    return np.ascontiguousarray(array, dtype=np.int32)


ModelInputChunk: TypeAlias = EncodedTextChunk | ImageChunk | ImageAssetPointerChunk | DmelChunk
_CHUNKS = (EncodedTextChunk, ImageChunk, ImageAssetPointerChunk, DmelChunk)


class ModelInput(msgspec.Struct, frozen=True):
    """A model's input: chunks in order. Most programs use ``ModelInput.from_ints``."""

    chunks: tuple[ModelInputChunk, ...] = ()

    def __post_init__(self) -> None:
        chunks: Any = self.chunks
        if not isinstance(chunks, tuple | list) or not all(
            isinstance(chunk, _CHUNKS) for chunk in cast("tuple[Any, ...]", chunks)
        ):
            raise InvalidInput("chunks", "is not a row of chunks", "Use ModelInput.from_ints(tokens)")
        msgspec.structs.force_setattr(self, "chunks", tuple(cast("tuple[Any, ...]", chunks)))

    @classmethod
    def from_ints(cls, tokens: Sequence[int] | TokenArray) -> ModelInput:
        """One text chunk of ``tokens``."""
        return cls(chunks=(EncodedTextChunk(tokens),))

    @classmethod
    def empty(cls) -> ModelInput:
        """An input without chunks; add to it with ``append``."""
        return cls()

    def append(self, chunk: ModelInputChunk) -> ModelInput:
        """A new input with ``chunk`` at the end."""
        return ModelInput(chunks=(*self.chunks, chunk))

    def append_int(self, token: int) -> ModelInput:
        """A new input with one more token: at the end of the last chunk if that is text, else as a new one."""
        return self.append_ints([token])

    def append_ints(self, tokens: Sequence[int] | TokenArray) -> ModelInput:
        """A new input with more tokens, at the end of the last chunk if that is text."""
        more = EncodedTextChunk(tokens)
        if self.chunks and isinstance(last := self.chunks[-1], EncodedTextChunk):
            more = EncodedTextChunk(np.concatenate([last.array, more.array]))
            return ModelInput(chunks=(*self.chunks[:-1], more))
        return self.append(more)

    @property
    def length(self) -> int:
        """Number of tokens over all chunks. Raises InvalidInput for an image without ``expected_tokens``."""
        return sum(chunk.length for chunk in self.chunks)

    @property
    def known_length(self) -> int | None:
        """``length``, or None where an image does not say how many tokens it becomes."""
        total = 0
        for chunk in self.chunks:
            if isinstance(chunk, ImageChunk | ImageAssetPointerChunk) and chunk.expected_tokens is None:
                return None
            total += chunk.length
        return total

    @property
    def text_chunks(self) -> tuple[EncodedTextChunk, ...]:
        """The chunks that are text, in order."""
        return tuple(chunk for chunk in self.chunks if isinstance(chunk, EncodedTextChunk))

    def to_array(self) -> TokenArray:
        """All tokens, int32, shape [length]. Raises InvalidInput where there is more than text."""
        text = self.text_chunks
        if len(text) != len(self.chunks):
            raise InvalidInput("chunks", "are not all text", "Give only text tokens here, without images or audio")
        if len(text) == 1:
            return text[0].array
        parts = [chunk.array for chunk in text]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def to_ints(self) -> list[int]:
        """All tokens as a list. Raises InvalidInput where there is more than text."""
        ids: Iterable[int] = self.to_array().tolist()
        return list(ids)
