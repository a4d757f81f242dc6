"""How a batch is cut into requests, and how large each will be."""

from __future__ import annotations

from collections.abc import Sequence

from tinker_actors.errors import InvalidInput
from tinker_actors.types import ByteEstimator, Datum

__all__ = ["datum_size", "split"]

_ESTIMATOR = ByteEstimator("0.38.0")


def datum_size(datum: Datum) -> int:
    """Estimated bytes of ``datum`` on the wire: the official SDK 0.38's rule."""
    return _ESTIMATOR.datum(datum)


def split(data: Sequence[Datum], *, max_len: int, max_bytes: int) -> tuple[tuple[Datum, ...], ...]:
    """Cut ``data``, greedily and in order, into chunks of at most ``max_len`` datums and ``max_bytes`` bytes.

    A datum larger than ``max_bytes`` is a chunk by itself. There is never an empty chunk. Raises InvalidInput
    for empty data.
    """
    if not data:
        raise InvalidInput("data", "is empty", "Give at least one Datum")
    chunks: list[tuple[Datum, ...]] = []
    chunk: list[Datum] = []
    size = 0
    for datum in data:
        more = datum_size(datum)
        if chunk and (len(chunk) == max_len or size + more > max_bytes):
            chunks.append(tuple(chunk))
            chunk, size = [], 0
        chunk.append(datum)
        size += more
    chunks.append(tuple(chunk))
    return tuple(chunks)
