"""Samplers: one set of weights to sample from, and the requests that were made of it."""

from __future__ import annotations

from typing import final

from tinker_actors.local.completions import Completions
from tinker_actors.local.futures import ServerFuture
from tinker_actors.local.owners import Owner
from tinker_actors.local.refusals import invalid
from tinker_actors.types import Promise, SampleRequest

__all__ = ["Sample", "Sampler", "SamplerTable"]


@final
class Sampler:
    """One sampling session.

    ``model_path`` is the checkpoint that its weights are from. Those of an ``ephemeral`` save are kept from the
    start, those of a checkpoint once they were read (``residency``); with neither they are the base model's own.
    """

    def __init__(
        self,
        sampling_session_id: str,
        session_id: str,
        base_model: str,
        *,
        owner: Owner,
        model_path: str | None = None,
        ephemeral: bool = False,
    ) -> None:
        self.sampling_session_id = sampling_session_id
        self.session_id = session_id
        self.owner = owner
        self.base_model = base_model
        self.model_path = model_path
        self.completions = Completions()
        self.ephemeral = ephemeral
        self.over = False
        """Its session has ended: it takes no more samples."""
        self._promises: dict[int, tuple[str, Promise]] = {}
        self._clients = 1

    def promised(self, seq_id: int, digest: str) -> Promise | None:
        """The promise under this seq_id, if there is one. Refuses (400) another payload under it."""
        known = self._promises.get(seq_id)
        if known is None:
            return None
        if known[0] != digest:
            raise invalid(
                "seq_id",
                f"{seq_id} of {self.sampling_session_id} carries another payload than when it first came",
                "Repeat a request unchanged, or give a new one the next seq_id",
            )
        return known[1]

    def join(self) -> int:
        """A number for one more client, which no other has; the first client is 0."""
        number = self._clients
        self._clients += 1
        return number

    def sequence_ids(self, seq_id: int, num_samples: int) -> tuple[str, ...]:
        """The ids of the sequences that a request has."""
        return tuple([f"{self.sampling_session_id}:{seq_id}:{index}" for index in range(num_samples)])

    def promise(self, seq_id: int, digest: str, future: ServerFuture, num_samples: int) -> Promise:
        """Remember a new promise, and name its sequences."""
        ids = self.sequence_ids(seq_id, num_samples)
        promise = Promise(request_id=future.request_id, sample_sequence_ids=ids)
        self._promises[seq_id] = (digest, promise)
        future.finished = lambda done: self.completions.add(seq_id, done.request_id)
        return promise


@final
class Sample:
    """One accepted sample request; its seed and its seq_id are set."""

    __slots__ = ("future", "request", "sampler")

    def __init__(self, sampler: Sampler, request: SampleRequest, future: ServerFuture) -> None:
        self.sampler = sampler
        self.request = request
        self.future = future

    @property
    def sequence_ids(self) -> tuple[str, ...]:
        """The ids of its sequences."""
        assert self.request.seq_id is not None
        return self.sampler.sequence_ids(self.request.seq_id, self.request.num_samples)


@final
class SamplerTable:
    """Every sampler of this process, by id."""

    def __init__(self) -> None:
        self._samplers: dict[str, Sampler] = {}
        self._names: dict[str, list[str]] = {}

    def add(self, sampler: Sampler) -> bool:
        """Add it; False when there is one of this id. Safe from any thread."""
        if self._samplers.setdefault(sampler.sampling_session_id, sampler) is not sampler:
            return False
        self._names.setdefault(sampler.session_id, []).append(sampler.sampling_session_id)
        return True

    def ids_of_session(self, session_id: str) -> tuple[str, ...]:
        """The ids of all samplers that the session has or had in this process, in the order of their making."""
        return tuple(self._names.get(session_id, ()))

    def find(self, sampling_session_id: str) -> Sampler | None:
        """The sampler of this id."""
        return self._samplers.get(sampling_session_id)

    def of_session(self, session_id: str) -> tuple[Sampler, ...]:
        """Those of one session."""
        return tuple(sampler for sampler in tuple(self._samplers.values()) if sampler.session_id == session_id)

    def forget(self, sampler: Sampler) -> None:
        """Its session is over."""
        sampler.over = True
        self._samplers.pop(sampler.sampling_session_id, None)
