"""How many bytes a request will take, as each generation of the official SDK estimates it.

Servers set their limits in these estimates: how a batch is cut into requests follows from them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, TypeAlias, assert_never

import msgspec

from tinker_actors.errors import InvalidInput
from tinker_actors.types.datum import Datum
from tinker_actors.types.dmel import DmelChunk
from tinker_actors.types.images import ImageAssetPointerChunk, ImageChunk
from tinker_actors.types.model_input import EncodedTextChunk, ModelInput, ModelInputChunk
from tinker_actors.types.tensor import TensorData

__all__ = ["ByteEstimator", "Generation"]

Generation: TypeAlias = Literal["0.3.0", "0.24.1", "0.25.0", "0.38.0"]
_GENERATIONS: tuple[Generation, ...] = ("0.3.0", "0.24.1", "0.25.0", "0.38.0")
_JSON_NUMBER = 10  # what a number takes in JSON, on average
_INT32, _INDEX = 4, 8


class ByteEstimator(msgspec.Struct, frozen=True):
    """Estimates of one generation of the official SDK (WIRE 4.3, 7 and 11.2).

    0.3.0 counts numbers instead of bytes: one for each token and each number of a tensor. 0.24.1 sends JSON: 10 bytes
    for each of them. 0.25.0 and 0.38.0 send protobuf: 4 bytes for each token, and the bytes of what a tensor stores.
    From 0.24.1 on an image counts its bytes, an asset pointer its location, and audio its bytes; in 0.3.0 their
    tokens. Prompts travel as JSON everywhere, 10 bytes for each token.
    """

    generation: Generation = "0.38.0"

    def __post_init__(self) -> None:
        if self.generation not in _GENERATIONS:
            known = ", ".join(map(repr, _GENERATIONS))
            raise InvalidInput("ByteEstimator.generation", f"{self.generation!r} is not known", f"Use one of {known}")

    @property
    def max_chunk_len(self) -> int:
        """Datums in one request; from 0.25.0 on the default of the server's ``fwdbwd_max_chunk_len``."""
        return 128 if self.generation == "0.3.0" else 1024

    @property
    def max_chunk_bytes(self) -> int:
        """Estimated bytes of one request, in 0.3.0 numbers; from 0.25.0 on the default of the server's
        ``fwdbwd_max_chunk_bytes_count``.
        """
        return 500_000 if self.generation == "0.3.0" else 5_000_000

    def prompt(self, model_input: ModelInput) -> int:
        """A prompt to sample from."""
        return sum(_chunk(chunk, _JSON_NUMBER) for chunk in model_input.chunks)

    def model_input(self, model_input: ModelInput) -> int:
        """The input of a datum. In 0.3.0 InvalidInput where an image does not say how many tokens it is."""
        if self.generation == "0.3.0":
            return model_input.length
        token = _JSON_NUMBER if self.generation == "0.24.1" else _INT32
        return sum(_chunk(chunk, token) for chunk in model_input.chunks)

    def tensor(self, tensor: TensorData) -> int:
        """A loss input."""
        if self.generation == "0.3.0":
            return tensor.values.size
        if self.generation == "0.24.1":
            return _JSON_NUMBER * tensor.values.size
        indices = tensor.indices
        stored = 0 if indices is None else _INDEX * (indices[0].size + indices[1].size)
        return tensor.values.nbytes + stored

    def datum(self, datum: Datum) -> int:
        """A datum: its input and its loss inputs."""
        return self.model_input(datum.model_input) + sum(map(self.tensor, datum.tensors().values()))

    def data(self, data: Iterable[Datum]) -> int:
        """All of a batch."""
        return sum(map(self.datum, data))


def _chunk(chunk: ModelInputChunk, token: int) -> int:
    match chunk:
        case EncodedTextChunk():
            return token * chunk.length
        case ImageChunk():
            return len(chunk.data)
        case ImageAssetPointerChunk():
            return len(chunk.location)
        case DmelChunk():
            return len(chunk.dmel)
        case _:
            assert_never(chunk)
