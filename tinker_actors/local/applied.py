"""The log of applied operations: what took effect on which model, in the order in which it did."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import final

import msgspec

__all__ = ["AppliedLog", "AppliedOperation"]

_log = logging.getLogger("tinker_actors.local")


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
        self.failure: str | None = None
        """Why the file has ended; what came after that is in memory only."""

    def append(self, operation: AppliedOperation) -> None:
        """Record ``operation``. One write call: a kill leaves whole lines, a power failure may lose the last ones.

        The operation has taken effect, so a disk that is full must not make it fail: the file ends there, which is
        logged and told by ``failure``.
        """
        self._by_model.setdefault(operation.model_id, []).append(operation)
        if self._file is None:
            return
        try:
            self._file.write(msgspec.json.encode(operation) + b"\n")
        except OSError as error:
            self.failure = str(error)
            _log.error("the log of applied operations ends here, before %s: %s", operation, error)
            self.close()

    def of(self, model_id: str) -> tuple[AppliedOperation, ...]:
        """What this process applied to the model, in order."""
        return tuple(self._by_model.get(model_id, ()))

    def close(self) -> None:
        """Close the file. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()
