"""Automatic checkpoints: when one is due, and its acceptance in the step of the optim_step that it shows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol, final

import trio

from tinker_actors.checks import integer, number, text
from tinker_actors.clients.training.operations import save_chunk
from tinker_actors.config import CheckpointPolicy
from tinker_actors.errors import ClosedError, InvalidInput, RequestFailedError, TinkerError
from tinker_actors.ledger import Future, Ledger, Operation, OperationKind
from tinker_actors.server_class import ServerClass
from tinker_actors.sessions import KeptCheckpoints, SavedCheckpoint, Session
from tinker_actors.types import ForwardBackwardOutput, SaveWeightsRequest, SaveWeightsResponse, checkpoint_name

__all__ = ["AutomaticCheckpoints", "Cue"]

_log = logging.getLogger("tinker_actors.clients")

_TRAINED = (OperationKind.FORWARD_BACKWARD, OperationKind.FORWARD_BACKWARD_CUSTOM)


class Cue(Protocol):
    """Somebody who keeps more than the weights, such as a job. None of it may raise or wait."""

    def stepped(self) -> bool:
        """An optim_step was accepted just now; whether a save may be accepted here."""
        ...

    def accepted(self, op_no: int, saved: Future[SaveWeightsResponse]) -> None:
        """A save was accepted just now: what it will show is the state of this moment."""
        ...


@final
class AutomaticCheckpoints:
    """The checkpoints that a training client saves by itself. Get it from ``client.checkpoints``.

    A save is accepted with the optim_step that makes it due, so it shows that step's weights and none later, however
    far the program is ahead. It needs no room of ``max_pending``. One that fails is logged and told as an event, and
    tried again with the next optim_step; the program's own operations hear nothing of it.
    """

    def __init__(self, session: Session, ledger: Ledger, policy: CheckpointPolicy | None) -> None:
        self._session = session
        self._ledger = ledger
        self._active = policy is not None
        self._policy = policy if policy is not None else CheckpointPolicy(keep_last=None)
        self._kept = KeptCheckpoints(ledger, self._policy, session.checkpoints_changed)
        session.checkpoints.add(self._kept)
        self._token = ""
        self._steps = 0
        self._since_steps = 0
        self._since_bytes = 0
        self._since_time = trio.current_time()
        self._unsaved = 0
        self._owed = False
        self._under_way = 0
        self._cue: Cue | None = None
        self._wake: Callable[[int], object] = int
        self._closed = False

    @property
    def policy(self) -> CheckpointPolicy | None:
        """What they are saved and kept by; None: nothing is saved by itself."""
        return self._policy if self._active else None

    @property
    def step(self) -> int:
        """How many optim_steps were accepted."""
        return self._steps

    @property
    def operations(self) -> int:
        """How many operations were accepted."""
        return self._ledger.statistics().next_op_no - 1

    @property
    def saved(self) -> tuple[SavedCheckpoint, ...]:
        """Those that are there, the oldest first."""
        return self._kept.saved()

    def pin(self, path: str) -> None:
        """Keep the checkpoint ``path`` whatever the policy says. Raises InvalidInput for one that is not there."""
        self._pin(path, pinned=True)

    def unpin(self, path: str) -> None:
        """Let the policy say again whether ``path`` is kept. Raises InvalidInput for one that is not there."""
        self._pin(path, pinned=False)

    def report(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """What was measured of the weights after ``step`` optim_steps, by default all that were accepted.

        ``best_metric`` of the policy judges the checkpoint of that step. What is not reported is looked for in the
        metrics of the step's first forward_backward. Raises InvalidInput for what is no finite number.
        """
        self._session.home.require("client.checkpoints")
        if not isinstance(metrics, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]  # no type checker at work
            raise InvalidInput("metrics", f"is of type {type(metrics).__name__}", "Give a dict of names and numbers")
        count = self._steps if step is None else integer("step", step, "Give the number of an optim_step", low=0)
        for name, given in metrics.items():
            value = number(f"metrics[{name!r}]", given, "Give a number")
            if not math.isfinite(value):
                raise InvalidInput(
                    f"metrics[{name!r}]", f"{value} is no finite number", "Leave it out: nothing is judged by it"
                )
            if name == self._policy.best_metric:
                self._kept.report(count, value)

    def save(self, name: str | None = None) -> Future[SaveWeightsResponse]:
        """Save the state as it will be after all that was accepted, now and whatever the cadence says.

        It is one of the automatic checkpoints from then on; one with a ``name`` of its own is pinned and does not
        expire. Raises LaneStopped or ClosedError where nothing can be accepted any more.
        """
        self._session.home.require("client.checkpoints")
        if self._closed:
            raise ClosedError("the checkpoint was not saved: its client was closed")
        return self._accept(None if name is None else checkpoint_name(name), pinned=name is not None)

    def _pin(self, path: str, *, pinned: bool) -> None:
        self._session.home.require("client.checkpoints")
        if not self._kept.pin(text("path", path, "Give the path of one of client.checkpoints.saved"), pinned=pinned):
            there = ", ".join(saved.path for saved in self._kept.saved()) or "none"
            raise InvalidInput("path", f"{path!r} is no automatic checkpoint of this client", f"There are: {there}")

    # ---- for the client, its actor, and who keeps more than weights

    def judge(self, row: Mapping[str, Any], step: int) -> None:
        """What ``row`` says of the weights after ``step`` optim_steps, among other things: a value that is not finite
        says nothing. Raises InvalidInput where ``best_metric`` is no number.
        """
        name = self._policy.best_metric
        if name is None or not isinstance(row, Mapping) or name not in row:  # pyright: ignore[reportUnnecessaryIsInstance]  # no type checker at work
            return
        value = number(f"metrics[{name!r}]", row[name], "Give a number")
        if math.isfinite(value):
            self._kept.report(step, value)

    @property
    def kept(self) -> KeptCheckpoints:
        """Which of them stay."""
        return self._kept

    async def drained(self) -> None:
        """Wait until all that was accepted has its result or its error."""
        for future in [operation.future for operation in self._ledger.unfinished()]:
            await future.exception()

    def sent_by(self, wake: Callable[[int], object]) -> None:
        """``wake`` lets the client's actor know that an operation, by its op_no, is there to be sent."""
        self._wake = wake

    def begin_at(self, step: int, token: str) -> None:
        """``step`` optim_steps were done before, by another client; names get ``token`` in them."""
        self._steps = step
        self._token = token

    def follow(self, cue: Cue | None) -> None:
        """Ask ``cue`` whether a save may be accepted, and tell it of each one."""
        self._cue = cue

    def after(self, operation: Operation) -> None:
        """``operation`` was accepted in this very step: accept a save, too, if one is due."""
        kind = operation.kind
        if kind in _TRAINED or kind is OperationKind.OPTIM_STEP:
            self._unsaved += operation.size
        if kind in _TRAINED:
            self._since_bytes += operation.size
            if self._policy.best_metric is not None:
                trained, step = operation.future, self._steps + 1
                trained.when_done(lambda: self._note(trained, step))
        elif kind in (OperationKind.SAVE_STATE, OperationKind.LOAD_STATE):
            if isinstance(saved := operation.chunks[0].request, SaveWeightsRequest) and saved.path is not None:
                self._claim(saved.path)
            self._covered(operation.future)
        elif kind is OperationKind.OPTIM_STEP:
            self._steps += 1
            self._since_steps += 1
            allowed = self._cue is None or self._cue.stepped()
            if allowed and self._active and self._due():
                self._accept(None, pinned=False)

    def close(self) -> None:
        """The client is over: nobody puts off what expires."""
        self._closed = True
        self._session.checkpoints.discard(self._kept)

    def _note(self, trained: Future[ForwardBackwardOutput], step: int) -> None:
        if trained.failed():
            return
        value = trained.outcome().metrics.get(self._policy.best_metric or "")
        if value is not None and math.isfinite(value):
            self._kept.report(step, value, only_new=True)

    def _due(self) -> bool:
        policy = self._policy
        if self._owed:
            return not self._under_way
        if policy.every_steps is not None and self._since_steps >= policy.every_steps:
            return True
        if policy.every_seconds is not None and trio.current_time() - self._since_time >= policy.every_seconds:
            return True
        if policy.every_bytes is not None and self._since_bytes >= policy.every_bytes:
            return True
        budget = self._ledger.replay_bytes
        return (
            policy.replay_share is not None and budget is not None and self._unsaved >= policy.replay_share * budget
        )

    def _accept(self, name: str | None, *, pinned: bool) -> Future[SaveWeightsResponse]:
        step = self._steps
        if name is None:
            name = self._next_name()
        else:
            self._claim(name)
        ttl = None if pinned else self._policy.ttl_seconds
        operation = self._ledger.accept(OperationKind.SAVE_STATE, (save_chunk(name, ttl),), automatic=True)
        self._since_steps = self._since_bytes = 0
        self._since_time = trio.current_time()
        self._owed = False
        self._under_way += 1
        saved: Future[SaveWeightsResponse] = operation.future
        end: Future[SaveWeightsResponse] = Future(lambda: operation.name, lambda: False, saved.home)
        self._follow(operation, end)
        self._covered(end)
        end.when_done(lambda: self._ended(end, operation, name, step, pinned=pinned))
        self._wake(operation.op_no)
        if self._cue is not None:
            self._cue.accepted(operation.op_no, end)
        return saved

    def _follow(self, save: Operation, end: Future[SaveWeightsResponse]) -> None:
        """Let ``end`` be that of ``save``, which its caller's Future is not while a decision is due."""
        saved: Future[SaveWeightsResponse] = save.future

        def told() -> None:
            if self._ledger.find(save.op_no) is save:
                self._follow(save, end)
            else:
                end.settle_as(saved, saved.outcome)

        saved.when_done(told)

    def _covered(self, save: Future[Any]) -> None:
        """What was trained on so far need not be kept once ``save`` is done."""
        covered, self._unsaved = self._unsaved, 0

        def ended() -> None:
            if save.failed():
                self._unsaved += covered

        save.when_done(ended)

    def _ended(
        self, saved: Future[SaveWeightsResponse], save: Operation, name: str, step: int, *, pinned: bool
    ) -> None:
        self._under_way -= 1
        try:
            path = saved.outcome().path
        except TinkerError as error:
            self._owed = True
            if not pinned:  # the name of such a one is the user's
                self._give_up(save, name, step, error)
            if not isinstance(error, ClosedError):
                _log.error("%s: the checkpoint %s was not saved: %s", self._ledger.name, name, error)
                self._session.metrics.add("checkpoints_failed")
                self._kept.failed(name, error)
            return
        if not pinned:
            self._give_up(save, name, step, None)
        self._session.metrics.add("checkpoints_saved")
        self._kept.add(path, step, save.op_no, pinned=pinned)

    def _give_up(self, save: Operation, name: str, step: int, error: TinkerError | None) -> None:
        """Have what ``save`` may have left at the server without anybody's knowing looked for."""
        for model_id in save.left:
            self._kept.give_up(model_id, name, step, save.op_no, certain=True)
        sending = save.sending
        if error is None or sending is None or isinstance(error, RequestFailedError):
            return
        promised = any(sending.request_ids)
        if promised or any(sending.doubts):
            # without a promise it may come behind what is done later
            certain = promised or self._session.server_class is not ServerClass.NONE
            self._kept.give_up(sending.model_id, name, step, save.op_no, certain=certain)

    def _claim(self, name: str) -> None:
        """``name`` is the user's, also if it looks like one of these."""
        if self._token and name.startswith(f"{self._policy.name}-{self._token}-"):
            self._kept.claim(name)

    def _next_name(self) -> str:
        if not self._token:  # another one for each client, so that no two of one lineage ever have the same
            self._token = f"{self._session.random.getrandbits(32):08x}"
        return f"{self._policy.name}-{self._token}-{self._ledger.statistics().next_op_no:06d}"
