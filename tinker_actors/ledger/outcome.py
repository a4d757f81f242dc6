"""Check sums of results, to tell whether an operation that was applied again has given the same."""

from __future__ import annotations

import zlib
from typing import Any, cast

from tinker_actors.types import ForwardBackwardOutput

__all__ = ["check_sum"]

_LOSS = "loss:sum"


def check_sum(result: Any) -> int | None:
    """A check sum of the loss and the tensors of ``result``; None for what has none.

    Other metrics count clock cycles and the like, which no repetition gives again.
    """
    if not isinstance(result, ForwardBackwardOutput):
        return None
    seen = zlib.crc32(repr(result.metrics.get(_LOSS)).encode())
    for record in result.loss_fn_outputs:
        for name, tensor in sorted(record.items()):
            seen = zlib.crc32(cast("Any", tensor.data), zlib.crc32(name.encode(), seen))
    return seen
