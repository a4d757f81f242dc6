"""What a model reads: a row of chunks, so far of text tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec
import numpy as np

from tinker_actors.errors import InvalidInput
from tinker_actors.types.tensor import TokenArray

__all__ = ["EncodedTextChunk", "ModelInput"]


class EncodedTextChunk(msgspec.Struct, frozen=True, eq=False, tag="encoded_text"):
    """Token ids, given as a list or array of integers and kept as a read-only int32 array."""

    tokens: TokenArray | Sequence[int]

    def __post_init__(self) -> None:
        try:
            array = np.asarray(self.tokens)
        except (ValueError, TypeError) as error:  # ragged, or of strange objects
            problem = "is not a flat list of integers"
            raise InvalidInput("tokens", problem, "Give the ids that the tokenizer returns") from error
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise InvalidInput("tokens", "is not a flat list of integers", "Give the ids that the tokenizer returns")
        if array.size and (int(array.min()) < 0 or int(array.max()) > 2**31 - 1):
            raise InvalidInput(
                "tokens", "holds an id outside 0 ... 2**31 - 1", "Give the ids that the tokenizer returns"
            )
        kept = np.ascontiguousarray(array, dtype=np.int32)
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


class ModelInput(msgspec.Struct, frozen=True):
    """A model's input: chunks in order. Most programs use ``ModelInput.from_ints``."""

    chunks: tuple[EncodedTextChunk, ...] = ()

    def __post_init__(self) -> None:
        chunks: Any = self.chunks
        if not isinstance(chunks, tuple | list) or not all(
            isinstance(chunk, EncodedTextChunk) for chunk in cast("tuple[Any, ...]", chunks)
        ):
            raise InvalidInput("chunks", "is not a row of EncodedTextChunk", "Use ModelInput.from_ints(tokens)")
        msgspec.structs.force_setattr(self, "chunks", tuple(cast("tuple[Any, ...]", chunks)))

    @classmethod
    def from_ints(cls, tokens: Sequence[int] | TokenArray) -> ModelInput:
        """One text chunk of ``tokens``."""
        return cls(chunks=(EncodedTextChunk(tokens),))

    @classmethod
    def empty(cls) -> ModelInput:
        """An input without chunks; add to it with ``append``."""
        return cls()

    def append(self, chunk: EncodedTextChunk) -> ModelInput:
        """A new input with ``chunk`` at the end."""
        return ModelInput(chunks=(*self.chunks, chunk))

    @property
    def length(self) -> int:
        """Number of tokens over all chunks."""
        return sum(chunk.length for chunk in self.chunks)

    def to_array(self) -> TokenArray:
        """All tokens, int32, shape [length]."""
        if len(self.chunks) == 1:
            return self.chunks[0].array
        parts = [chunk.array for chunk in self.chunks]
        return np.concatenate(parts) if parts else np.empty(0, np.int32)

    def to_ints(self) -> list[int]:
        """All tokens as a list."""
        ids: Iterable[int] = self.to_array().tolist()
        return list(ids)
