"""The Monitor: asks the server about runs, hears of the runtime's own, and has recovered what can't go on."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import final

import trio

from supervision import Actor, ActorDegraded, MailboxFull, NotRunning
from tinker_actors.clients.own import OwnClient, OwnClients
from tinker_actors.clients.training.events import ModelGivenUp, ModelMissed, ModelRebuilt
from tinker_actors.clients.training.messages import LoseModel
from tinker_actors.errors import ClosedError, RecoveryPending, TinkerError
from tinker_actors.recovery.behaviours import RestBehaviour
from tinker_actors.recovery.choice import PolicyChooser, Scores
from tinker_actors.recovery.events import (
    RecoveryCompleted,
    RecoveryDetected,
    RecoveryExhausted,
    RecoveryPollError,
)
from tinker_actors.recovery.queue import Wanted
from tinker_actors.recovery.room import RecoveryRoom
from tinker_actors.recovery.watches import Fact, Watch

__all__ = ["Monitor"]

_log = logging.getLogger("tinker_actors.recovery")

_JITTER = 0.25
_LONGEST_PAUSE = 16  # intervals, for a run of which the server says nothing


@final
class Monitor(Actor):
    """Each run is asked about in a task of its own, so that none waits for another's answer.

    Nothing that it must remember is its own: the next incarnation watches the same runs.
    """

    def __init__(self, room: RecoveryRoom, clients: OwnClients, rest: RestBehaviour, scores: Scores) -> None:
        self._room = room
        self._watches = room.watches
        self._clients = clients
        self._rest = rest
        self._scores = scores
        self._own: dict[str, Watch] = {}
        self._scopes: dict[Watch, trio.CancelScope] = {}

    async def init(self) -> None:
        """Watch whatever there is to watch."""
        self.context.start_task(self._work, name="work")

    async def _work(self) -> None:
        changed = self._watches.changed
        while True:
            seen = changed.value
            while self._watches.facts:
                self._act(self._watches.facts.popleft())  # one step: no crash comes between
            self._begin_and_end()
            while changed.value == seen:
                await changed.wait_transition()  # pyright: ignore[reportUnknownMemberType]  # trio-util's own gap

    def _begin_and_end(self) -> None:
        policy = self._room.policy
        if policy is not None and policy.covers("run_corrupted"):
            living = {own.path: own for own in self._clients.all() if own.living}
            self._own = {path: self._own.get(path) or self._watch(own) for path, own in living.items()}
        here = {watch.run_id for watch in self._own.values()}
        due = {*self._own.values(), *(watch for watch in self._watches.all() if watch.run_id not in here)}
        for watch in [watch for watch in self._scopes if watch not in due]:
            self._scopes.pop(watch).cancel(reason="the run is watched no more")
        for watch in due - self._scopes.keys():
            scope = self._scopes[watch] = trio.CancelScope()
            self.context.start_task(self._follow, watch, scope, name=f"watch {watch.run_id}")

    def _watch(self, own: OwnClient) -> Watch:
        assert self._room.policy is not None
        return Watch(
            own.model_id,
            rest=self._rest,
            policy=self._room.policy,
            metadata={},
            own=own,
        )

    async def _follow(self, watch: Watch, scope: trio.CancelScope) -> None:
        with scope:
            while True:
                pause = watch.policy.poll_interval * min(2**watch.errors, _LONGEST_PAUSE)
                await trio.sleep(pause * self.context.random.uniform(1.0 - _JITTER, 1.0))
                own = watch.own
                if not watch.recovering and (own is None or own.ledger.lost is None):
                    await self._ask(watch)

    async def _ask(self, watch: Watch) -> None:
        run_id = watch.run_id
        try:
            with trio.fail_after(watch.policy.poll_interval):
                run = await watch.rest.get_training_run(run_id)
            corrupted, newest = bool(run.corrupted), run.last_checkpoint
            path = None if newest is None else newest.tinker_path
        except Exception as error:  # noqa: BLE001  # a service of the user's may raise anything
            if isinstance(error, trio.TooSlowError):
                why = f"no answer within {watch.policy.poll_interval:g} s"
            else:
                why = str(error) or type(error).__name__
                if not isinstance(error, TinkerError):
                    why = f"{type(error).__name__}: {why}"
            watch.errors += 1
            _log.log(
                logging.WARNING if watch.errors == 1 else logging.DEBUG,
                "whether run %s is sound can't be known: %s",
                *(run_id, why),
            )
            self._room.metrics.add("recovery_poll_errors")
            self._room.tell(RecoveryPollError(self.context.path, run_id, watch.metadata, why))
            return
        watch.errors = 0
        if corrupted and run_id == watch.run_id:
            self._corrupted(watch, path)

    def _corrupted(self, watch: Watch, newest: str | None) -> None:
        run_id, cause = watch.run_id, "the server says that the run is corrupted"
        own = watch.own or self._clients.of(run_id)
        if watch.detected != run_id:
            watch.detected = run_id
            _log.error("run %s: %s", run_id, cause)
            self._room.metrics.add("runs_corrupted")
            if own is None or not own.living:  # of its own clients the runtime hears by itself
                self._detected(run_id, watch, cause, newest)
        if own is not None and own.living:
            with suppress(MailboxFull, NotRunning):  # the next answer says the same
                own.ref.cast_nowait(LoseModel(run_id, cause))
            return
        service = watch.service
        if service is None:  # its client was let go: nobody wants it
            return
        wanted = Wanted(
            run_id=run_id,
            service=service,
            rest=watch.rest,
            policy=watch.policy,
            chooser=PolicyChooser(watch.policy, self._scores),
            metadata=watch.metadata,
            client=watch.client,
            checkpoint=newest,
        )
        watch.recovering = self._submit(wanted)

    def _detected(self, run_id: str, watch: Watch | None, cause: str, checkpoint: str | None) -> None:
        metadata: Mapping[str, str] = {} if watch is None else watch.metadata
        self._room.tell(RecoveryDetected(self.context.path, run_id, metadata, cause, checkpoint))

    def _submit(self, wanted: Wanted) -> bool:
        try:
            self._room.queue.submit(wanted)
        except (RecoveryPending, ClosedError):
            return False
        return True

    # Of the runtime's own clients.

    def _act(self, fact: Fact) -> None:
        event, run_id = fact.event, fact.model_id
        policy = self._room.policy
        assert policy is not None
        watch = self._watches.find(run_id)
        wanted = self._wanted(fact, watch)
        if wanted is None:
            return
        match event:
            case ModelMissed():
                self._detected(run_id, watch, event.cause, None)
            case ModelRebuilt():
                self._watches.recovered(run_id, fact.own.client, event.model_id)
                self._room.tell(
                    RecoveryCompleted(self.context.path, run_id, wanted.metadata, 0, event.model_id, event.checkpoint)
                )
                self._room.callbacks.on_recovery(wanted, fact.own.client, event.checkpoint)
            case ModelGivenUp() | ActorDegraded():
                degraded = isinstance(event, ActorDegraded)
                trigger = "client_degraded" if degraded else event.trigger
                cause = "its client has crashed too often" if degraded else event.reason
                if policy.rebuilds(trigger or None):
                    self._room.tell(RecoveryExhausted(self.context.path, run_id, wanted.metadata, 0, cause))
                    self._room.callbacks.on_failure(wanted, cause)
                elif policy.covers(trigger):
                    self._detected(run_id, watch, cause, None)
                    if self._submit(wanted) and watch is not None:
                        watch.recovering = True

    def _wanted(self, fact: Fact, watch: Watch | None) -> Wanted | None:
        """None for a client that was let go: nobody wants it."""
        policy, service = self._room.policy, fact.own.service
        assert policy is not None
        if service is None:
            return None
        return Wanted(
            run_id=fact.model_id,
            service=service,
            rest=self._rest,
            policy=policy,
            chooser=PolicyChooser(policy, self._scores),
            metadata={} if watch is None else watch.metadata,
            client=fact.own.client,
            checkpoint=None,
        )
