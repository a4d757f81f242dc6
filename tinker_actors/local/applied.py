"""The log of applied operations: what took effect on which model, in the order in which it did."""

from __future__ import annotations

from pathlib import Path
from typing import final

import msgspec

__all__ = ["AppliedLog", "AppliedOperation"]


class AppliedOperation(msgspec.Struct, frozen=True, kw_only=True):
    """One operation that took effect.

    ``kind`` is the client's name for it (forward, forward_backward, optim_step, save_state,
    save_weights_for_sampler, load_state), ``digest`` that of ``codec.digest.operation_digest``.
    """

    model_id: str
    seq_id: int
    kind: str
    digest: str
    request_id: str


@final
class AppliedLog:
    """In memory, and as JSON lines in ``path`` if there is one. Appended to by the work itself, in its thread."""

    def __init__(self, path: Path | None) -> None:
        self._by_model: dict[str, list[AppliedOperation]] = {}
        self._file = path.open("ab", buffering=0) if path is not None else None

    def append(self, operation: AppliedOperation) -> None:
        """Record ``operation``. One write call: a kill leaves whole lines, a power failure may lose the last ones."""
        if self._file is not None:
            self._file.write(msgspec.json.encode(operation) + b"\n")
        self._by_model.setdefault(operation.model_id, []).append(operation)

    def of(self, model_id: str) -> tuple[AppliedOperation, ...]:
        """What this process applied to the model, in order."""
        return tuple(self._by_model.get(model_id, ()))

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
