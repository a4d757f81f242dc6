"""The log of applied operations: what took effect on which model, in the order in which it did."""

from __future__ import annotations

import logging
import os
import stat
from io import FileIO
from pathlib import Path
from typing import Final, final

import msgspec

__all__ = ["AppliedLog", "AppliedOperation"]

_log = logging.getLogger("tinker_actors.local")
_PIECE: Final = 1 << 16


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
        self._file = _open_whole(path) if path is not None else None
        self._unwritten = bytearray()
        self.failure: str | None = None
        """Why the file lacks the last operations, as long as it does: there is no room for them."""

    def append(self, operation: AppliedOperation) -> None:
        """Record ``operation``. A kill loses nothing that was written, a power failure may lose the last lines.

        The operation has taken effect, so a disk that is full must not make it fail: what finds no room is written
        before the next operation that does. That is logged, and told by ``failure`` meanwhile.
        """
        self._by_model.setdefault(operation.model_id, []).append(operation)
        if self._file is None:
            return
        self._unwritten += msgspec.json.encode(operation) + b"\n"
        try:
            while self._unwritten:  # a disk that is nearly full takes a part of it
                del self._unwritten[: self._file.write(self._unwritten)]
        except OSError as error:
            if self.failure is None:
                _log.error("the log of applied operations is behind from %s on: %s", operation, error)
            self.failure = str(error)
        else:
            if self.failure is not None:
                _log.warning("the log of applied operations is whole again, up to %s", operation)
            self.failure = None

    def of(self, model_id: str) -> tuple[AppliedOperation, ...]:
        """What this process applied to the model, in order."""
        return tuple(self._by_model.get(model_id, ()))

    def close(self) -> None:
        """Close the file. Idempotent."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def _open_whole(path: Path) -> FileIO:
    """``path``, to append to; without the line at its end that a kill on a full disk may have left half written."""
    file = FileIO(path, "a+")
    try:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            end = size = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(end - _PIECE, 0)
                newline = os.pread(file.fileno(), end - start, start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
            if end < size:
                file.truncate(end)
    except BaseException:
        file.close()
        raise
    return file
