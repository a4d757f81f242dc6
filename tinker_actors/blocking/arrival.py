"""A sampling client that arrives in another process: it finds a runtime there, or opens one."""

from __future__ import annotations

import threading

from tinker_actors.blocking.engine import Engine, EngineThread
from tinker_actors.clients.sampler_handle import SamplerHandle
from tinker_actors.clients.sampling import SamplingClient
from tinker_actors.runtime import open_runtime

__all__ = ["Arrival"]


class Arrival:
    """The way from ``handle`` to a client of this process, gone at the first use.

    Not when it is unpickled: an error there would end a pool's worker instead of reaching whoever asked.
    """

    def __init__(self, handle: SamplerHandle) -> None:
        self.handle = handle
        self._lock = threading.Lock()
        self._found: tuple[Engine, SamplingClient] | None = None

    def place(self) -> tuple[Engine, SamplingClient]:
        """The engine and the client. Raises CredentialError where there is no key, and what joining raises."""
        with self._lock:
            if self._found is None:
                engine = _open_engine(self.handle.base_url) or _new_engine(self.handle.base_url)
                runtime = engine.runtime
                client = engine.run(
                    "create_sampling_client_from_handle",
                    lambda: runtime.create_sampling_client_from_handle(self.handle),
                )
                self._found = engine, client
            return self._found


def _open_engine(base_url: str) -> Engine | None:
    # Python's own list of threads tells which runtimes are open here; after a fork, those of a parent are not in it
    for thread in threading.enumerate():
        if isinstance(thread, EngineThread) and thread.engine.is_open_for(base_url):
            return thread.engine
    return None


def _new_engine(base_url: str) -> Engine:
    engine = Engine(lambda: open_runtime(base_url=base_url))
    engine.open()
    return engine
