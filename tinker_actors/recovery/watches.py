"""The runs under watch, and what has become known of them: plain objects on the Monitor's place."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any, TypeAlias, final

import msgspec
from trio_util import AsyncValue

from supervision import ActorDegraded, Event
from tinker_actors.clients.own import OwnClient, OwnClients
from tinker_actors.clients.training.events import ModelGivenUp, ModelMissed, ModelRebuilt, StateSaved
from tinker_actors.config import RecoveryPolicy
from tinker_actors.recovery.behaviours import RestBehaviour, ServiceBehaviour
from tinker_actors.recovery.choice import Scores

__all__ = ["Fact", "OwnFact", "Watch", "Watches"]

OwnFact: TypeAlias = ModelMissed | ModelRebuilt | ModelGivenUp | ActorDegraded


class Fact(msgspec.Struct, frozen=True, eq=False):
    """Something that has happened to a training client of this runtime, and has not been acted upon."""

    own: OwnClient
    event: OwnFact
    model_id: str
    """The model that it had then."""


@final
class Watch:
    """One run that the server is asked about. The Monitor alone changes it, and a recovery's end."""

    def __init__(
        self,
        run_id: str,
        *,
        service: ServiceBehaviour | None = None,
        rest: RestBehaviour,
        policy: RecoveryPolicy,
        metadata: Mapping[str, str],
        client: Any = None,
        own: OwnClient | None = None,
    ) -> None:
        self._run_id = run_id
        self._service = service
        self.rest = rest
        self.policy = policy
        self.metadata = metadata
        self._client = client
        self.own = own
        """Of a run in training here: it is watched for as long as its client lives, whatever model it has."""
        self.detected: str | None = None
        """The run that was found corrupted."""
        self.errors = 0
        """Questions in a row without an answer."""
        self.recovering = False

    @property
    def run_id(self) -> str:
        """The run to ask about."""
        return self._run_id if self.own is None else self.own.model_id

    @property
    def service(self) -> ServiceBehaviour | None:
        """What makes the client that it goes on with; None when its own was let go."""
        return self._service if self.own is None else self.own.service

    @property
    def client(self) -> Any:
        """The client that trains it, where that is known."""
        return self._client if self.own is None else self.own.client

    def follow(self, run_id: str, client: Any) -> None:
        """The run goes on as another one."""
        self._run_id = run_id
        self._client = client
        self.recovering = False
        self.errors = 0


@final
class Watches:
    """``changed`` counts whatever the Monitor has to look at, clients that come and go included."""

    def __init__(self, clients: OwnClients, scores: Scores, policy: RecoveryPolicy | None) -> None:
        self._clients = clients
        self._scores = scores
        self._policy = policy
        self._watches: dict[str, Watch] = {}
        self.facts: deque[Fact] = deque()
        self.closed = False
        """Whether nobody asks about them any more."""
        self.changed: AsyncValue[int] = clients.changed

    def add(self, watch: Watch) -> None:
        """Watch a run, in the place of an earlier watch of the same."""
        self._watches[watch.run_id] = watch
        self.touch()

    def remove(self, run_id: str) -> Watch | None:
        """Watch it no more; None when it was not."""
        watch = self._watches.pop(run_id, None)
        self.touch()
        return watch

    def find(self, run_id: str) -> Watch | None:
        """The watch of ``run_id``, if it was asked for."""
        return self._watches.get(run_id)

    def all(self) -> tuple[Watch, ...]:
        """Those that were asked for, the oldest first."""
        return tuple(self._watches.values())

    def recovered(self, run_id: str, client: Any, model_id: str) -> None:
        """``run_id`` goes on as ``model_id``, which is watched in its place."""
        watch = self._watches.pop(run_id, None)
        if watch is not None and model_id:
            watch.follow(model_id, client)
            self._watches[model_id] = watch
        self.touch()

    def given_up(self, run_id: str) -> None:
        """``run_id`` can't be recovered, and asking about it tells nothing new."""
        self.remove(run_id)

    def hear(self, event: Event) -> None:
        """A listener of the system's events: keeps what the Monitor is to act upon, whether it is there or not."""
        if isinstance(event, StateSaved):
            self._scores.note(event.checkpoint, event.metrics)
        elif isinstance(event, OwnFact):
            own = self._clients.at(event.path)
            if own is not None and self._policy is not None and not self.closed:
                lost = event.lost if isinstance(event, ModelRebuilt) else own.model_id
                self.facts.append(Fact(own, event, lost))
                self.touch()

    def close(self) -> None:
        """The Monitor will not come back."""
        self.closed = True
        self._watches.clear()
        self.facts.clear()

    def touch(self) -> None:
        """The Monitor is to look."""
        self.changed.value += 1
