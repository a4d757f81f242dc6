"""The training client's actor: creates its model, runs the send lane and the polls, and judges what is lost."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import trio

from supervision import Actor, Event, handles
from tinker_actors.clients.outage import creation_failure
from tinker_actors.clients.training.creation import MADE_ANEW, Made, free, make_model, unload
from tinker_actors.clients.training.events import (
    DecisionDue,
    ModelGivenUp,
    ModelMissed,
    ModelRebuilt,
    ReplayDiffers,
    StateSaved,
)
from tinker_actors.clients.training.failure import (
    abandoned,
    brief_loss,
    confirm_failure,
    rebuild_failure,
    session_loss,
)
from tinker_actors.clients.training.lane import SendLane
from tinker_actors.clients.training.messages import GetInfo, LoseModel, Unload, Wake
from tinker_actors.clients.training.model import Model, new_model
from tinker_actors.clients.training.rebuild import Rebuilder
from tinker_actors.clients.training.results import Results
from tinker_actors.errors import (
    ModelLost,
    OperationError,
    OutageError,
    TinkerError,
    UnknownVerdict,
)
from tinker_actors.flow.patience import OutOfPatience
from tinker_actors.flow.reaction import Reaction, while_polling
from tinker_actors.ledger import Operation, OperationKind, OperationState, Rebuild, Sending, Shown
from tinker_actors.server_class import ServerClass
from tinker_actors.sessions import ServerClassFound, Session
from tinker_actors.types import (
    ForwardBackwardOutput,
    GetInfoResponse,
    LoadWeightsRequest,
    LoadWeightsResponse,
    SaveWeightsResponse,
    UnloadModelResponse,
)
from tinker_actors.wire.endpoints.models import get_info

__all__ = ["TrainingActor"]

_log = logging.getLogger("tinker_actors.clients")


class TrainingActor(Actor):
    """Works off one model's ledger.

    A new incarnation reads the ledger: what is promised is polled again under its request id, what was sent
    without a promise is sent again under its seq_id and idempotency key, the rest goes on in order.
    """

    def __init__(self, session: Session, model: Model) -> None:
        self._session = session
        self._model = model
        self._ledger = model.ledger
        self._poller = session.poller()
        self._scopes: set[trio.CancelScope] = set()
        self._unwanted: ModelLost | UnknownVerdict | None = None
        """A loss that the policy does not make good, if it is what it seems."""
        self._results = Results(session, model, get_info=self._get_info, give_up=self._give_up, finish=self._finish)
        self._lane = SendLane(
            session,
            model,
            promised=self._start_poll,
            forwarded=self._poll,
            switch=self._switch,
            found=self._found,
            stop=self._give_up,
            finish=self._finish,
        )

    async def init(self) -> None:
        """Create the model, if no earlier incarnation has. Raises why the server would not."""
        if self._ledger.model_id is None:
            await self._create()
        self.context.start_task(self._work, name="lane")
        if self._session.config.recovery is not None:
            self.context.start_task(self._follow_session, name="session")

    async def _follow_session(self) -> None:
        """Know of the model's loss with its session, also when nothing is to be sent: its samplers wait for it."""
        session, ledger = self._session, self._ledger
        while ledger.stopped is None:
            if session.generation != ledger.generation and ledger.lost is None:
                self._give_up(self._session_lost(), None)
            await session.state.wait_transition()  # pyright: ignore[reportUnknownMemberType]  # trio-util's own gap

    @handles(Wake)
    def wake(self, message: Wake) -> None:
        """Let the lane look at the ledger."""
        self._lane.wake()

    @handles(LoseModel)
    def lose_model(self, message: LoseModel) -> None:
        """Begin with another model, unless that has happened or the client is over."""
        ledger = self._ledger
        if message.model_id == ledger.model_id and ledger.lost is None and ledger.stopped is None:
            self._give_up(ModelLost(message.cause, operation=ledger.name, trigger="run_corrupted"), None)

    @handles(GetInfo)
    async def get_info(self, message: GetInfo) -> None:
        """Ask the server in a task of its own, so that the mailbox stays free."""
        reply = self.context.defer_reply()

        async def ask() -> None:
            try:
                reply.send(await self._get_info_of_what_is_there())
            except TinkerError as error:
                reply.fail(error)

        self.context.start_task(ask, name="get_info")

    @handles(Unload)
    def unload(self, message: Unload) -> None:
        """Have the server free the model, in a task of its own."""
        reply = self.context.defer_reply()
        session, model_id = self._session, self._model_id()

        async def ask() -> None:
            try:
                answer = await unload(session, self._ledger.name, model_id, self._poller)
            except OutOfPatience as gone:
                reply.fail(gone.error)
            except TinkerError as error:
                reply.fail(error)
            else:
                if answer is None:
                    _log.info("%s: the server frees models with their session", self._ledger.name)
                reply.send(answer if answer is not None else UnloadModelResponse(model_id=model_id))

        self.context.start_task(ask, name="unload")

    async def _create(self) -> None:
        session, model = self._session, self._model
        unknown = lost = 0
        with session.pending.track(self._ledger.name, "create_model", "sent") as entry:
            while True:
                try:
                    await session.until_active(entry)
                    entry.enter("sent")
                    if model.first.generation != session.generation:
                        model.first = new_model(session)
                    made = await make_model(session, model, model.first, poller=self._poller, entry=entry)
                    self._ledger.begin(made.model_id, model.first.generation, made.next_seq_id)
                    model.info = await self._ask_info()
                    model.base_model = model.base_model or model.info.model_data.model_name or ""
                except OutOfPatience as gone:
                    if gone.reaction in (Reaction.ARRIVED, Reaction.UNKNOWN) and unknown < MADE_ANEW:
                        unknown += 1
                        model.first = new_model(session)
                        continue
                    if gone.reaction is Reaction.LOST and session.config.recovery is not None:
                        try:
                            await session.confirm()
                        except OutOfPatience as silent:
                            raise silent.error from gone.error
                        if session.generation != model.first.generation:
                            continue  # not the server's word on the model, but the session's end
                        if entry.state == "promised" and lost + 1 < session.config.recovery.max_attempts:
                            lost += 1  # it had been promised: what is lost is the promise, or the model
                            entry.enter("waiting", f"to be created anew, since its promise is lost: {gone.error}")
                            await trio.sleep(session.config.recovery.delay(lost))
                            model.first = new_model(session)
                            continue
                    raise creation_failure(session, self._ledger.name, gone) from None
                return

    async def _ask_info(self) -> GetInfoResponse:
        model_id = self._model_id()
        with self._session.pending.track(self._ledger.name, "get_info", "sent") as entry:
            patience = self._poller.patience()
            return await patience.persist(
                lambda: get_info(self._session.api, model_id, attempt=patience.tries),
                while_polling,
                entry.explain,
            )

    async def _get_info(self) -> GetInfoResponse:
        try:
            return await self._ask_info()
        except OutOfPatience as gone:
            raise gone.error from None

    async def _get_info_of_what_is_there(self) -> GetInfoResponse:
        session, ledger = self._session, self._ledger
        missed: str | None = None
        while True:
            model_id = self._model_id()
            try:
                return await self._ask_info()
            except OutOfPatience as gone:
                if gone.reaction is not Reaction.LOST or session.config.recovery is None:
                    raise gone.error from None
                try:
                    await session.confirm()
                except OutOfPatience as silent:
                    raise silent.error from gone.error
                if ledger.stopped is not None:
                    raise gone.error from None
                same = ledger.lost is None and self._model_id() == model_id
                if same and session.generation == ledger.generation:
                    if missed != model_id:
                        missed = model_id  # twice, with a word on the session in between, is no chance
                        continue
                    text = f"the server no longer holds it ({gone.error})"
                    self._give_up(ModelLost(text, operation=ledger.name, trigger="model_lost"), None)
                    if ledger.lost is None:
                        raise gone.error from None
                await ledger.until_there(f"get_info of {ledger.name}")

    async def _work(self) -> None:
        """Send and poll in one epoch after the other."""
        ledger = self._ledger
        decisions = ledger.decisions
        while ledger.stopped is None or ledger.decisions != decisions:
            if ledger.decisions != decisions:  # perhaps in the step in which its user was asked
                decisions = ledger.decisions
                self._decided()
                continue
            if ledger.undecided is not None and ledger.lost is not None:
                await ledger.until_decided()
                continue
            if self._unwanted is not None:
                await self._settle(self._unwanted)
                continue
            if (rebuild := ledger.lost) is not None:
                await self._rebuild(rebuild)
                continue
            with self._until_stopped():
                for operation in ledger.open_operations():
                    promised = operation.sending is not None and operation.sending.complete
                    if promised and not operation.half and not ledger.suspended(operation):
                        self._start_poll(operation)
                await self._lane.run()

    def _decided(self) -> None:
        """The user has said how to go on: begin anew with what the ledger has."""
        session, ledger = self._session, self._ledger
        _log.warning("%s: it was decided how to go on", ledger.name)
        if ledger.stopped is not None:
            self._over("abandoned", ledger.stopped)
        elif session.config.recovery is not None and session.generation != ledger.generation and ledger.lost is None:
            self._give_up(self._session_lost(), None)
        self._end_tasks("it was decided how to go on")

    async def _settle(self, error: ModelLost | UnknownVerdict) -> None:
        """A model or a promise that seems lost may be the end of its session, which is another loss."""
        policy, session = self._session.config.recovery, self._session
        assert policy is not None
        try:
            await session.confirm()
        except OutOfPatience as gone:
            self._unwanted = None
            self._give_up(confirm_failure(self._ledger.name, gone, session.pending.lines()), None)
            return
        self._unwanted = None
        if session.generation == self._ledger.generation:
            self._stop_lane(error)
        elif policy.rebuilds("session_lost"):
            self._give_up(self._session_lost(), None)
        else:
            self._stop_lane(self._session_lost())

    def _session_lost(self) -> ModelLost:
        return session_loss(self._ledger.name, self._session.session_id)

    async def _rebuild(self, rebuild: Rebuild) -> None:
        policy = self._session.config.recovery
        assert policy is not None
        old, generation = self._model_id(), self._ledger.generation
        try:
            with self._until_stopped():
                await Rebuilder(self._session, self._model, policy, self._free_later).run(rebuild)
        except OutOfPatience as gone:
            self._give_up(rebuild_failure(self._ledger.name, gone, self._session.pending.lines()), None)
        except TinkerError as error:
            self._stop_lane(error)
        else:
            if self._ledger.stopped is None:
                cover = rebuild.cover
                checkpoint = None if cover is None else cover.path
                self._tell(
                    ModelRebuilt(self.context.path, self._model_id(), rebuild.cause, rebuild.replays, old, checkpoint)
                )
            self._session.checkpoints_changed.value += 1  # what waited for it may be pruned
            if generation == self._ledger.generation and self._model_id() != old:
                # a model of which the server has lost a result only is still in its memory
                self.context.start_task(self._free, old, name=f"free {old}")

    def _found(self, server_class: ServerClass, how: str) -> None:
        place = self.context.path.partition("/clients/")[0]
        self._tell(ServerClassFound(place, server_class, how))

    def _switch(self, operation: Operation, made: Made, generation: int) -> None:
        """``operation``, a load, has been done by a new model, which goes on in the place of the one in training."""
        old = self._model_id()
        _log.info("%s goes on as %s, since its server loads into new models only", self._ledger.name, made.model_id)
        self._model.fresh.pop(operation.op_no, None)
        request = operation.chunks[0].request
        assert isinstance(request, LoadWeightsRequest)
        self._ledger.switch(made.model_id, generation, made.next_seq_id)
        self._finish(operation, LoadWeightsResponse(path=request.path))
        earlier = [one for one in self._ledger.open_operations() if one.op_no < operation.op_no]
        self.context.start_task(self._free, old, *earlier, name=f"free {old}")

    def _free_later(self, model_id: str) -> None:
        self.context.start_task(self._free, model_id, name=f"free {model_id}")

    async def _free(self, model_id: str, *operations: Operation) -> None:
        """Have the server free a model, once ``operations`` have the results that it owes them."""
        for operation in operations:
            await self._ledger.until_ended(operation)
        await free(self._session, self._ledger.name, model_id, self._poller)

    @contextmanager
    def _until_stopped(self) -> Generator[None]:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield
            finally:
                self._scopes.discard(scope)

    def _start_poll(self, operation: Operation) -> None:
        sending = operation.sending
        assert sending is not None
        self.context.start_task(self._poll, operation, sending, name=f"poll {operation.name}")

    async def _poll(self, operation: Operation, sending: Sending) -> None:
        with self._until_stopped():
            await self._results.poll(operation, sending)

    def _finish(self, operation: Operation, result: Any) -> None:
        assert operation.sending is not None
        self._model.saved(operation, operation.chunks[0].request, result)
        if not operation.replayed:
            self._count(operation)
        if operation.kind is OperationKind.SAVE_WEIGHTS_FOR_SAMPLER:
            self._model.shown(operation, result, operation.sending.generation)
            if result.path is not None:
                self._session.show(result.path, Shown(self._ledger, operation))
        if not operation.replayed:
            if isinstance(result, SaveWeightsResponse):
                self._tell(StateSaved(self.context.path, result.path, self._model.metrics))
            elif isinstance(result, ForwardBackwardOutput):
                self._model.metrics = result.metrics
        if not self._ledger.finish(operation, result):
            _log.warning(
                "%s %s %s has given another result when it was applied again: the server is not deterministic",
                *(self._ledger.name, operation.kind, operation.name),
            )
            self._session.metrics.add("replays_differing")
            self._tell(ReplayDiffers(self.context.path, operation.op_no))

    def _count(self, operation: Operation) -> None:
        session = self._session
        session.metrics.add("operations_done")
        session.metrics.observe("operation_seconds", operation.entry.snapshot().age)
        tokens = sum(chunk.tokens for chunk in operation.chunks)
        if tokens:
            session.metrics.add("tokens_trained", tokens)
            session.usage.add(self._model.base_model, trained=tokens)

    def _give_up(self, error: TinkerError, spoilt: Operation | None) -> None:
        """Nothing more can be done with this model: rebuild it, without the ``spoilt`` operation, or ask, or stop.

        With an UnknownVerdict ``spoilt`` is the operation that is in doubt.
        """
        policy = self._session.config.recovery
        if isinstance(error, OutageError):
            if policy is not None and policy.covers("lane_stopped"):
                self._stop_lane(error)
            else:
                self._suspend(error)
            return
        if not isinstance(error, ModelLost | UnknownVerdict):
            self._stop_lane(error)
            return
        if self._ledger.undecided is not None:
            self._suspend(error)
            return
        if isinstance(error, UnknownVerdict):
            assert spoilt is not None
            if not spoilt.replayed and not self._restores(error, spoilt):
                return
            spoilt = None
        self._session.doubt()
        if policy is None or self._ledger.losses >= policy.max_attempts:
            self._stop_lane(error)
            return
        trigger = error.trigger if isinstance(error, ModelLost) else None
        if not policy.rebuilds(trigger):
            self._unwanted = error
            self._end_tasks("the model is lost")
            return
        cause = brief_loss(error)
        _log.error("the model of %s is lost: %s. It is being rebuilt", self._ledger.name, cause)
        self._session.metrics.add("models_lost")
        self._tell(ModelMissed(self.context.path, self._model_id(), trigger or "", cause))
        if spoilt is not None and not spoilt.replayed:
            why = error.__cause__ if isinstance(error.__cause__, TinkerError) else error
            self._ledger.lose(cause, spoilt=spoilt, error=why)
        else:
            self._ledger.lose(cause)
        self._end_tasks("the model is lost")

    def _restores(self, error: UnknownVerdict, operation: Operation) -> bool:
        """Whether the policy is to leave behind the model that may have taken ``operation``; else that is settled."""
        policy, ledger = self._session.config.recovery, self._ledger
        choice = "ask" if policy is None else policy.unknown_outcome
        if choice == "restore" and policy is not None and policy.replay and ledger.losses < policy.max_attempts:
            return True
        if choice == "assume_applied":
            _log.warning("%s: %s. It is assumed to have been, as the policy says", ledger.name, brief_loss(error))
            ledger.take_for_applied(operation)
        elif choice == "abandon":
            self._stop_lane(abandoned(error), OperationState.VERDICT)
        else:
            self._suspend(error, operation)
        return False

    def _suspend(self, error: OperationError, doubtful: Operation | None = None) -> None:
        """Have the user say how to go on."""
        session, ledger = self._session, self._ledger
        if ledger.undecided is not None and ledger.undecided.since == 0:
            return
        _log.error("%s waits for restore(), assume_applied() or abandon(): %s", ledger.name, error)
        session.failed(ledger.name, "lane", error)
        ledger.suspend(error, doubtful)
        self._model.look()
        if doubtful is None:
            self._end_tasks("its user is to decide")
        self._tell(DecisionDue(self.context.path, self._model_id(), str(error)))

    def _stop_lane(self, error: TinkerError, state: OperationState = OperationState.FAILED) -> None:
        _log.error("the lane of %s stops: %s", self._ledger.name, error)
        self._session.failed(self._ledger.name, "lane", error)
        self._ledger.stop(error, state=state)
        self._over((error.trigger or "") if isinstance(error, ModelLost) else "lane_stopped", error)

    def _over(self, trigger: str, error: TinkerError) -> None:
        self._model.over("their training client was given up")
        self._end_tasks("the lane has stopped")
        self._tell(ModelGivenUp(self.context.path, self._model_id(), trigger, str(error)))

    def _end_tasks(self, reason: str) -> None:
        for scope in tuple(self._scopes):
            scope.cancel(reason=reason)

    def _tell(self, event: Event) -> None:
        self.context.system.events.emit(event)

    def _model_id(self) -> str:
        assert self._ledger.model_id is not None
        return self._ledger.model_id
