"""One BLAS thread while the engine computes: results change with the number of threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import cache
from typing import Final, Protocol, cast, final

import numpy as np
import threadpoolctl

__all__ = ["BLAS_THREADS", "fixed_blas_threads"]

BLAS_THREADS: Final = 1


class _Library(Protocol):
    """What is used of a threadpoolctl.LibController, which has no types."""

    user_api: str

    def get_num_threads(self) -> int: ...
    def set_num_threads(self, num_threads: int) -> None: ...


@final
class _Guard:
    """Counts who computes; the number of threads is a setting of the whole process."""

    def __init__(self) -> None:
        np.matmul(np.ones((1, 1)), np.ones((1, 1)))  # so that BLAS is there to be found
        found = cast("list[_Library]", threadpoolctl.ThreadpoolController().lib_controllers)
        self._libraries = [library for library in found if library.user_api == "blas"]
        self._lock = threading.Lock()
        self._holders = 0
        self._before: list[int] = []

    def enter(self) -> None:
        with self._lock:
            if self._holders == 0:
                self._before = [library.get_num_threads() for library in self._libraries]
            # every time, not only the first: where BLAS uses OpenMP, each thread has a setting of its own
            for library in self._libraries:
                _set_threads(library, BLAS_THREADS)
            self._holders += 1

    def leave(self) -> None:
        with self._lock:
            self._holders -= 1
            if self._holders == 0:
                for library, count in zip(self._libraries, self._before, strict=True):
                    _set_threads(library, count)


def _set_threads(library: _Library, count: int) -> None:
    """Set it, from whatever thread this is: threadpoolctl heeds one thread and ignores the others silently."""
    if library.get_num_threads() == count:
        return
    release: Callable[..., None] | None = getattr(library, "clear_controlling_thread", None)
    if release is not None:
        release(force=True)
    library.set_num_threads(count)
    if release is not None:
        release(force=True)
    if library.get_num_threads() != count:
        raise RuntimeError(f"BLAS runs {library.get_num_threads()} threads and would not be set to {count}")


@cache  # one for the process, as the setting that it guards is
def _guard() -> _Guard:
    return _Guard()


@contextmanager
def fixed_blas_threads() -> Generator[None]:
    """Hold BLAS at BLAS_THREADS; from several threads at a time, the last to leave restores what was set."""
    guard = _guard()
    guard.enter()
    try:
        yield
    finally:
        guard.leave()
