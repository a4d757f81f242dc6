"""Which adapters are in memory. Those used least recently are in files, and come back as they were when needed."""

from __future__ import annotations

import logging
import threading
from collections import Counter, OrderedDict
from collections.abc import Collection, Generator
from contextlib import contextmanager
from typing import final

from tinker_actors.errors import DecodeError
from tinker_actors.local.engine import (
    Engine,
    Snapshot,
    UnloadModel,
    snapshot_from_safetensors,
    snapshot_to_safetensors,
    state_from_bytes,
    state_to_bytes,
)
from tinker_actors.local.sampler import Sampler
from tinker_actors.local.spill import SpillDamaged, SpilledFile, SpillFiles

__all__ = ["LostState", "ResidentModels", "ResidentSnapshots"]

_log = logging.getLogger("tinker_actors.local")


class LostState(Exception):
    """What was in a file can't be had back."""


@final
class ResidentModels:
    """The engine's models, at most ``most`` of them in memory. Methods block, and may be called by several threads.

    A file that can't be written leaves its model in memory: too much memory is better than a lost model.
    """

    def __init__(self, engine: Engine, files: SpillFiles, most: int) -> None:
        self._engine = engine
        self._files = files
        self._most = most
        self._lock = threading.Lock()
        self._held: Counter[str] = Counter()
        self._here: OrderedDict[str, None] = OrderedDict()
        self._away: dict[str, SpilledFile] = {}

    def in_memory(self, model_id: str) -> bool:
        """Whether it is; may be called on the event loop."""
        return model_id not in self._away

    @contextmanager
    def hold(self, model_id: str) -> Generator[None]:
        """Keep the model, which may be made or unloaded meanwhile, in memory. Raises LostState."""
        with self._lock:
            self._held[model_id] += 1
        try:
            with self._lock:
                if model_id not in self._here:
                    self._make_room()
                    self._bring_back(model_id)
            yield
        finally:
            with self._lock:
                self._held[model_id] -= 1
                if not self._engine.has(model_id):
                    self._here.pop(model_id, None)
                elif model_id not in self._away:
                    self._here[model_id] = None
                    self._here.move_to_end(model_id)

    def discard(self, model_id: str) -> None:
        """Unload a model whose state nobody wants any more."""
        with self._lock:
            if self._engine.has(model_id):
                self._engine.apply(UnloadModel(model_id=model_id))
            self._here.pop(model_id, None)
            file = self._away.pop(model_id, None)
            if file is not None:
                self._files.remove(file)

    def _make_room(self) -> None:
        idle = [model_id for model_id in self._here if not self._held[model_id]]
        for model_id in idle[: max(len(self._here) - self._most + 1, 0)]:
            try:
                self._away[model_id] = self._files.write(state_to_bytes(self._engine.state(model_id)))
            except OSError as error:
                _log.error("model %s stays in memory, for it can't be written to a file: %s", model_id, error)
                return
            self._engine.take_out(model_id)
            del self._here[model_id]

    def _bring_back(self, model_id: str) -> None:
        file = self._away.get(model_id)
        if file is None:
            return
        try:
            state = state_from_bytes(self._files.read(file))
        except (SpillDamaged, DecodeError) as error:
            raise LostState(str(error)) from error
        self._engine.put_back(model_id, state)
        self._here[model_id] = None
        del self._away[model_id]
        self._files.remove(file)


@final
class ResidentSnapshots:
    """Samplers' weights, at most ``most`` in memory. Methods block, for several threads.

    A snapshot never changes, so its file stays when it comes back.
    """

    def __init__(self, files: SpillFiles, most: int) -> None:
        self._files = files
        self._most = most
        self._lock = threading.Lock()
        self._here: OrderedDict[Sampler, Snapshot] = OrderedDict()
        self._away: dict[Sampler, SpilledFile] = {}

    def keep(self, sampler: Sampler, snapshot: Snapshot) -> None:
        """Keep the weights of a sampler."""
        with self._lock:
            self._enter(sampler, snapshot)

    def get(self, sampler: Sampler) -> Snapshot | None:
        """The weights of a sampler; None when none are kept. Raises LostState."""
        with self._lock:
            snapshot = self._here.get(sampler)
            if snapshot is not None:
                self._here.move_to_end(sampler)
                return snapshot
            file = self._away.get(sampler)
            if file is None:
                return None
            try:
                snapshot = snapshot_from_safetensors(self._files.read(file))
            except (SpillDamaged, DecodeError) as error:
                raise LostState(str(error)) from error
            self._enter(sampler, snapshot)
            return snapshot

    def forget(self, unwanted: Collection[Sampler]) -> None:
        """Drop the weights of samplers."""
        with self._lock:
            for sampler in unwanted:
                self._here.pop(sampler, None)
                file = self._away.pop(sampler, None)
                if file is not None:
                    self._files.remove(file)

    def samplers(self) -> tuple[Sampler, ...]:
        """Those whose weights are kept; may be called on the event loop."""
        with self._lock:
            return tuple({**self._here, **self._away})

    def _enter(self, sampler: Sampler, snapshot: Snapshot) -> None:
        for oldest in list(self._here)[: max(len(self._here) - self._most + 1, 0)]:
            if oldest not in self._away:
                try:
                    self._away[oldest] = self._files.write(snapshot_to_safetensors(self._here[oldest]))
                except OSError as error:
                    _log.error(
                        "the weights of %s stay in memory, for they can't be written: %s",
                        oldest.sampling_session_id,
                        error,
                    )
                    break
            del self._here[oldest]
        self._here[sampler] = snapshot
