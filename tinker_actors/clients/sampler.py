"""The Sampler: which weights a sampling client samples from, and the actor that keeps them at the server."""

from __future__ import annotations

import logging
from typing import final

import msgspec
import trio
from trio_util import AsyncValue, wait_any  # pyright: ignore[reportUnknownVariableType]  # its own gap

from supervision import Actor, Call, handles
from tinker_actors.clients.completions import CLONE, Completions
from tinker_actors.clients.outage import creation_failure, outage_of
from tinker_actors.errors import AuthenticationError, ClosedError, ModelLost, StaleSampler, TinkerError
from tinker_actors.flow.patience import OutOfPatience, brief
from tinker_actors.flow.pending import PendingEntry
from tinker_actors.flow.queue_state import ClientQueue
from tinker_actors.flow.reaction import Reaction, while_submitting
from tinker_actors.flow.rounds import Rounds
from tinker_actors.ledger import Shown
from tinker_actors.sessions import Session, SessionState
from tinker_actors.types import CreateSamplingSessionRequest, CreateSamplingSessionResponse, Promise
from tinker_actors.wire.endpoints.sampling import create_sampling_session

__all__ = ["GetSamplerInfo", "Sampler", "SamplerInfo", "SamplingActor", "close_sampler", "strand"]

_log = logging.getLogger("tinker_actors.clients")

_MISSING = -1


@final
class Sampler:
    """A plain object on the sampling client's place: which weights, and the numbers of its requests.

    Weights by path, and base models, get another sampling session whenever the server has lost theirs. Ephemeral
    ones show their model as it was at one operation: they come back when that is applied again (``renew``), or never
    (``give_up``). Meanwhile samples wait. An outage ends that wait (``fail``), and nothing else.
    """

    def __init__(
        self,
        *,
        session: str,
        seq_id: int,
        model_path: str | None,
        base_model: str | None,
        sampling_session_id: str | None,
        key: str,
        trained_from: str | None = None,
        vocabulary: int | None = None,
        record_stability_info: bool = False,
        first_request: int = 0,
    ) -> None:
        self.seq_id = seq_id
        self.model_path = model_path
        self.base_model = base_model
        self.sampling_session_id = sampling_session_id
        self.key = key
        self.known_model = base_model or trained_from
        """The base model, where it is known here."""
        self.vocabulary = vocabulary
        """How many token ids there are, where it is known here."""
        self.record_stability_info = record_stability_info
        """Whether the server keeps of each sample what a later stable_reinforce needs."""
        self.counted_as = base_model or trained_from or model_path or sampling_session_id or ""
        """The base model, for the tokens' price; where it is not known, the path of the weights."""
        self.queue = ClientQueue(f"{session}/sampler-{seq_id}", "sampling")
        self._generation = _MISSING
        self.rounds = Rounds()
        """The tries to have them at the server again."""
        self.completions = Completions()
        self.shown: Shown | None = None
        """Of which model of this program they are, and of when; None where that is not known."""
        self._orphaned: str | None = None
        self._over: tuple[type[TinkerError], str] | None = None
        self._changes: AsyncValue[int] = AsyncValue(0)
        self.first_request = first_request
        self._next = first_request

    @property
    def ephemeral(self) -> bool:
        """Whether only its training client can make these weights again."""
        return self.model_path is None and self.base_model is None

    def next_seq_id(self) -> int:
        """A number for a new request: 0, 1, 2, ..., or from where a clone's begin; an identity and not an order."""
        self._next += 1
        return self._next - 1

    def current(self, session: Session) -> bool:
        """Whether the server has these weights, as far as is known."""
        return self._generation == session.generation

    def renew(self, sampling_session_id: str, generation: int) -> None:
        """The server has them again, in the session of ``generation``."""
        self.sampling_session_id = sampling_session_id
        self._generation = generation
        self.rounds = Rounds()
        self._changes.value += 1

    def miss(self, sampling_session_id: str) -> None:
        """The server does not know this sampling session any more, and its session lives."""
        if self.sampling_session_id == sampling_session_id:
            self._generation = _MISSING
            self._changes.value += 1

    def give_up(self, kind: type[TinkerError], why: str) -> None:
        """They will not come back: samples that wait, and later ones, get an error of ``kind``."""
        if self._over is None:
            self._over = (kind, why)
            self._changes.value += 1

    def fail(self, gone: OutOfPatience) -> None:
        """An outage keeps them from coming back, for now: samples that wait get an error."""
        self.rounds.fail(gone)
        self._changes.value += 1

    def look(self) -> None:
        """Samples that wait are to see what has become of the model."""
        self._changes.value += 1

    def orphan(self, why: str) -> None:
        """Nobody is left who could make ephemeral weights again, once the server has lost them."""
        if self._orphaned is None:
            self._orphaned = why
            self._changes.value += 1

    @property
    def orphaned(self) -> str | None:
        """Why nobody is left; None while there is."""
        return self._orphaned

    async def ready(self, session: Session, entry: PendingEntry) -> str:
        """The sampling session to be used, as soon as the server has the weights.

        Raises what ``give_up`` said, and OutageError when they have not come back for as long as an outage may last.
        Ephemeral ones wait for their model; while that waits for its user's decision after an outage, they raise so.
        """
        rounds, due = self.rounds, self.rounds.due
        while True:
            if self.current(session) and self.sampling_session_id is not None:
                return self.sampling_session_id
            if self._over is not None:
                kind, why = self._over
                raise kind(why)
            if rounds is not self.rounds:
                rounds, due = self.rounds, self.rounds.due
            if (gone := rounds.outage(due)) is not None:
                raise outage_of(session, entry.name, "be taken, since its weights are not at the server", gone) from (
                    gone.error
                )
            if self.ephemeral and self.shown is not None:
                outage = self.shown.outage_for(f"{entry.name} {entry.kind}")
                if outage is not None:
                    raise outage
            entry.enter("waiting", "the server has lost its session, and its weights are being made available again")
            await self._changes.wait_transition()  # pyright: ignore[reportUnknownMemberType]  # trio-util's own gap

    async def until_missing(self, session: Session) -> None:
        """Wait until the server has lost the weights."""
        while self.current(session):
            await wait_any(self._changes.wait_transition, session.state.wait_transition)  # pyright: ignore[reportUnknownMemberType]

    async def until_changed(self) -> None:
        """Wait until they are renewed or given up."""
        await self._changes.wait_transition()  # pyright: ignore[reportUnknownMemberType]  # as above


class SamplerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Which weights a sampling client samples from."""

    sampling_session_id: str
    model_path: str | None
    base_model: str | None


class GetSamplerInfo(Call[SamplerInfo], frozen=True):
    """Ask for the weights."""


class SamplingActor(Actor):
    """The control plane of one sampling client: creates the server's sampling session, and again when it is lost."""

    def __init__(self, session: Session, sampler: Sampler) -> None:
        self._session = session
        self._sampler = sampler

    async def init(self) -> None:
        """Create the sampling session, if there is none. Raises why the server would not."""
        if self._sampler.sampling_session_id is None:
            try:
                await self._create()
            except OutOfPatience as gone:
                raise creation_failure(self._session, self.context.name, gone) from None
        self.context.start_task(self._keep, name="keep")
        self.context.start_task(self._watch, name="completions")

    @handles(GetSamplerInfo)
    def get_sampler_info(self, message: GetSamplerInfo) -> SamplerInfo:
        """The weights."""
        sampler = self._sampler
        assert sampler.sampling_session_id is not None
        return SamplerInfo(
            sampling_session_id=sampler.sampling_session_id,
            model_path=sampler.model_path,
            base_model=sampler.base_model,
        )

    async def _keep(self) -> None:
        session, sampler = self._session, self._sampler
        while True:
            await sampler.until_missing(session)
            mended = session.mended.value
            sampler.rounds.begin()
            try:
                await session.until_active()
                if not sampler.ephemeral:
                    sampler.seq_id = session.next_sampling_session_seq_id()
                    sampler.key = session.new_key()
                    await self._create()
                    _log.warning("%s has its weights again, as %s", self.context.name, sampler.sampling_session_id)
                    continue
            except OutOfPatience as gone:
                if isinstance(gone.error, AuthenticationError):
                    _log.error(
                        "%s has lost its weights until its credential is mended: %s", self.context.name, gone.error
                    )
                    await session.until_mended(mended)
                elif gone.outage:
                    await self._endure(gone)
                else:
                    self._lose(gone.error)
                    return
                continue
            except TinkerError as error:
                self._lose(error)
                return
            if sampler.orphaned is not None:
                strand(sampler, sampler.orphaned)
                return
            await sampler.until_changed()

    async def _endure(self, gone: OutOfPatience) -> None:
        """Have those who wait told of the outage, and let some time pass."""
        session, name = self._session, self.context.name
        self._sampler.fail(gone)
        if session.state.value is SessionState.RENEWING:
            return  # whose next end is waited for
        pause = session.pause_in_outage()
        _log.error("%s could not have its weights again, which is tried on: %s", name, gone.error)
        with session.pending.track(name, "create_sampling_session", "waiting") as entry:
            entry.explain(f"no answer for {gone.lasted:.0f} s, next try in {pause:.1f} s after {brief(gone.error)}")
            await trio.sleep(pause)

    def _lose(self, error: TinkerError) -> None:
        _log.error("%s has lost its weights: %s", self.context.name, error)
        self._sampler.give_up(ModelLost, f"the weights of {self.context.name} are lost: {error}")

    async def _watch(self) -> None:
        """Ask for the results of all samples at once, in whatever sampling session they are, where it is offered."""
        session, sampler = self._session, self._sampler
        while session.server_config.sample_use_retrieve_futures and sampler.sampling_session_id is not None:
            watched = sampler.sampling_session_id
            await sampler.completions.watch(session, watched, sampler.first_request // CLONE)
            while sampler.sampling_session_id == watched:
                await sampler.until_changed()

    async def _create(self) -> None:
        """Have a sampling session. Raises OutOfPatience, and what ``until_active`` does."""
        session, sampler = self._session, self._sampler
        with session.pending.track(self.context.name, "create_sampling_session", "sent") as entry:
            while True:
                session_id, generation = await session.until_active(entry), session.generation
                entry.enter("sent")
                try:
                    created = await self._request(session_id, entry)
                except OutOfPatience as gone:
                    if gone.reaction is Reaction.LOST:
                        await session.confirm()
                        if session.generation != generation:
                            continue  # not the weights were missing, but the session
                    raise
                sampler.renew(created.sampling_session_id, generation)
                return

    async def _request(self, session_id: str, entry: PendingEntry) -> CreateSamplingSessionResponse:
        session, sampler = self._session, self._sampler
        request = CreateSamplingSessionRequest(
            session_id=session_id,
            sampling_session_seq_id=sampler.seq_id,
            base_model=sampler.base_model,
            model_path=sampler.model_path,
        )
        poller = session.poller()
        patience = poller.patience()
        began = trio.current_time()
        created = await patience.persist(
            lambda: create_sampling_session(session.api, request, key=sampler.key, attempt=patience.tries),
            while_submitting,
            entry.explain,
        )
        if isinstance(created, Promise):
            entry.enter("promised")
            created = await poller.result(
                created.request_id,
                CreateSamplingSessionResponse,
                entry,
                request_type="CreateSamplingSession",
                point="sampling.creating",
                roundtrip=trio.current_time() - began,
            )
        return created


def close_sampler(sampler: Sampler) -> None:
    """The sampling client's place has closed: nothing waits for nobody."""
    sampler.queue.close()
    sampler.give_up(ClosedError, "its sampling client was closed")


def strand(sampler: Sampler, why: str) -> None:
    """Nobody can make these ephemeral weights again."""
    sampler.give_up(StaleSampler, f"these weights can't be made again, since {why}. Save the weights under a name")
