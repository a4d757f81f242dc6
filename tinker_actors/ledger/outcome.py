"""Check sums of results, to tell whether an operation that was applied again has given the same."""

from __future__ import annotations

import zlib
from typing import Any, Final, cast

import numpy as np

from tinker_actors.types import ForwardBackwardOutput

__all__ = ["check_sum"]

_LOSS: Final = "loss:sum"
_LONG: Final = 4096  # bytes
_HEAD: Final = 16
_WORDS: Final = 64


def check_sum(result: Any) -> int | None:
    """A check sum of the loss and the tensors of ``result``; None for what has none.

    Other metrics count clock cycles and the like, which no repetition gives again. Tensors that came in one array, as
    those of all datums do, are summed up at once.
    """
    if not isinstance(result, ForwardBackwardOutput):
        return None
    seen = zlib.crc32(repr(result.metrics.get(_LOSS)).encode())
    summed: set[int] = set()
    for record in result.loss_fn_outputs:
        for name, tensor in record.items() if len(record) == 1 else sorted(record.items()):
            data = cast("Any", tensor.data)
            seen = zlib.crc32(b"%b %d" % (name.encode(), len(data)), seen)
            if data.nbytes <= _LONG:
                seen = zlib.crc32(data, seen)
                continue
            seen = zlib.crc32(data[:_HEAD], seen)  # sums alone would not show the order of the datums
            whole: Any = cast("Any", data.base) if isinstance(data.base, np.ndarray) else data
            if id(whole) not in summed:
                summed.add(id(whole))
                seen = _folded(whole, seen)
    return seen


def _folded(data: Any, seen: int) -> int:
    """Of sums of every 64th word, which is done sooner than of all words, and shows each single difference."""
    raw: Any = np.ascontiguousarray(data).reshape(-1).view(np.uint8)
    whole = len(raw) // (8 * _WORDS) * (8 * _WORDS)
    sums: Any = np.add.reduce(raw[:whole].view(np.uint64).reshape(-1, _WORDS), axis=0)
    return zlib.crc32(raw[whole:], zlib.crc32(sums, seen))
