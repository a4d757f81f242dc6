"""The Model: what a training client's incarnations share."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, final

import msgspec

from supervision import StopReason
from tinker_actors.clients.sampler import Sampler, strand
from tinker_actors.clients.training.checkpoints import AutomaticCheckpoints
from tinker_actors.clients.training.custom_loss import CustomLoss
from tinker_actors.clients.training.operations import sampler_chunk
from tinker_actors.errors import ClosedError, LaneStopped, TinkerError
from tinker_actors.flow.queue_state import ClientQueue
from tinker_actors.ledger import Cover, Ledger, NewModel, Operation, OperationKind, OperationState
from tinker_actors.ledger.operation import TrainingRequest
from tinker_actors.sessions import Session
from tinker_actors.types import (
    GetInfoResponse,
    LoraConfig,
    SaveWeightsExternalRequest,
    SaveWeightsForSamplerRequest,
    SaveWeightsForSamplerResponse,
    SaveWeightsRequest,
)

__all__ = ["Model", "Source", "new_model"]

_log = logging.getLogger("tinker_actors.clients")
_NAMED = 3  # operations
_SAVES_KEPT = 4096  # whose names are remembered


class Source(msgspec.Struct, frozen=True):
    """The checkpoint that a model is made from; ``access_token`` is its owner's leave, where it is another's."""

    path: str
    optimizer: bool
    access_token: str | None = None

    def __repr__(self) -> str:
        return f"Source({self.path!r})"  # a token is nobody's to read


@final
class Model:
    """A plain object on the training client's place: how the model was created, and its ledger."""

    def __init__(
        self,
        *,
        first: NewModel,
        base_model: str,
        lora: LoraConfig | None,
        source: Source | None = None,
        optimizer: Mapping[str, Any] | None = None,
        user_metadata: Mapping[str, str],
        ledger: Ledger,
        ledgers: set[Ledger],
        checkpoints: AutomaticCheckpoints,
    ) -> None:
        self.first = first
        """The numbers under which it is created for the first time."""
        self.base_model = base_model
        self.lora = lora
        self.source = source
        """Where it came from; then its shape is the checkpoint's, and ``base_model`` "" until it is known."""
        self.optimizer = optimizer
        """The optimizer's family, as it is sent; None: the server's default."""
        self.begun = False
        """Whether the server may have been asked for it."""
        self.user_metadata = user_metadata
        self.ledger = ledger
        self.ledgers = ledgers
        self.checkpoints = checkpoints
        self.info: GetInfoResponse | None = None
        self.fresh: dict[int, NewModel] = {}
        """By op_no: models made for loads that the server refuses anywhere else."""
        self.losses: dict[int, CustomLoss] = {}
        """By op_no: functions of the user's that have not been called to their end."""
        self.metrics: Mapping[str, float] = {}
        """Of the latest forward pass that has its result."""
        self._samplers: dict[int, Sampler] = {}
        self._saves: dict[tuple[type, str], tuple[str, int, Any]] = {}
        self.queue = ClientQueue(ledger.name, "training")

    @property
    def vocabulary(self) -> int | None:
        """How many token ids there are, where the server has said so."""
        return None if self.info is None else self.info.model_data.vocab_size

    def add_loss(self, op_no: int, loss: CustomLoss) -> None:
        """``loss`` is the function of operation ``op_no``; those of operations that were cancelled go."""
        for known in [known for known in self.losses if self.ledger.find(known) is None]:
            del self.losses[known]
        self.losses[op_no] = loss

    def show(self, op_no: int, sampler: Sampler) -> None:
        """``sampler`` has the weights of operation ``op_no``, an ephemeral save."""
        self._samplers[op_no] = sampler

    def hide(self, op_no: int) -> None:
        """Nobody samples from the weights of ``op_no`` any more."""
        self._samplers.pop(op_no, None)
        if self.ledger.history is not None:
            self.ledger.history.forget(op_no)

    def to_replay(self, cover: Cover, session: Session) -> tuple[Operation, ...]:
        """What is to be applied again to a model that is in the state of ``cover``, in order.

        Ephemeral samplers that the server has lost are made again at their place; those of earlier states are stale.
        """
        history = self.ledger.history
        assert history is not None
        lost = {op_no: sampler for op_no, sampler in self._samplers.items() if not sampler.current(session)}
        replays: list[Operation] = []
        for operation in self.ledger.unfinished():
            lost.pop(operation.op_no, None)
            if operation.kind is OperationKind.SAVE_WEIGHTS_FOR_SAMPLER:
                _renumber(operation, session)  # also one that nobody waits for any more
        for operation in history.since(cover.op_no):
            if operation.kind is OperationKind.SAVE_WEIGHTS_FOR_SAMPLER:
                if lost.pop(operation.op_no, None) is None:
                    continue
                _renumber(operation, session)
            replays.append(operation)
        for op_no, sampler in lost.items():
            strand(sampler, f"{self.ledger.name} goes on from {cover}, which is later")
            self.hide(op_no)
        return tuple(replays)

    def shown(self, operation: Operation, result: SaveWeightsForSamplerResponse, generation: int) -> None:
        """The ephemeral save ``operation`` was applied, for the first time or again."""
        sampler = self._samplers.get(operation.op_no)
        if sampler is not None and result.sampling_session_id is not None:
            sampler.renew(result.sampling_session_id, generation)

    def saved(self, operation: Operation, request: TrainingRequest, result: Any) -> None:
        """``operation``, a save under a name, is done."""
        assert operation.sending is not None
        if (key := _named(request)) is not None:
            self._saves.pop(key, None)
            self._saves[key] = (operation.sending.model_id, operation.updates, result)
            if len(self._saves) > _SAVES_KEPT:
                del self._saves[next(iter(self._saves))]

    def saved_as(self, operation: Operation) -> Any:
        """The result of an earlier save of that name which shows the state that ``operation`` would; None if none."""
        key, sending = _named(operation.chunks[0].request), operation.sending
        if key is None or sending is None or (known := self._saves.get(key)) is None:
            return None
        model_id, updates, result = known
        return result if (model_id, updates) == (sending.model_id, operation.updates) else None

    def look(self) -> None:
        """Samplers whose weights it is to make again are to see what has become of it."""
        for sampler in self._samplers.values():
            sampler.look()

    def over(self, why: str) -> None:
        """Nothing more is applied: samplers that the server loses from now on can't be made again."""
        self.losses.clear()
        for sampler in self._samplers.values():
            sampler.orphan(why)
        self._samplers.clear()

    def close(self, reason: StopReason) -> None:
        """The client's place has closed, by a stop or by too many crashes: nothing waits for nobody."""
        self.queue.close()
        self.checkpoints.close()
        ledger = self.ledger
        self.over("their training client was closed")
        if reason.crash is not None:
            error: TinkerError = LaneStopped(
                f"the client of {ledger.name} crashed too often and was given up. The last crash: {reason.crash}"
            )
            ledger.stop(error, state=OperationState.VERDICT)
        else:
            if abandoned := [operation for operation in ledger.unfinished() if not operation.automatic]:
                # their Futures say so, too, but a program that forgot to await them looks at none
                names = ", ".join(f"{operation.kind} {operation.name}" for operation in abandoned[:_NAMED])
                more = f" and {len(abandoned) - _NAMED} more" if len(abandoned) > _NAMED else ""
                _log.warning(
                    "%s was closed before these had a result: %s%s. Await their Futures first",
                    ledger.name,
                    names,
                    more,
                )
            closed = f"the client of {ledger.name} was closed; what had no result by then is abandoned"
            ledger.stop(ClosedError(closed))
        self.ledgers.discard(ledger)


def new_model(session: Session) -> NewModel:
    """Numbers and keys for one more model of ``session``."""
    return NewModel(
        seq_id=session.next_model_seq_id(),
        key=session.new_key(),
        load_key=session.new_key(),
        generation=session.generation,
    )


def _named(request: TrainingRequest) -> tuple[type, str] | None:
    if isinstance(request, SaveWeightsRequest | SaveWeightsForSamplerRequest | SaveWeightsExternalRequest):
        return None if request.path is None else (type(request), request.path)
    return None


def _renumber(operation: Operation, session: Session) -> None:
    # under its old number the server may hold the sampler of the lost model, or refuse this one
    (chunk,) = operation.chunks
    if isinstance(chunk.request, SaveWeightsForSamplerRequest) and chunk.request.path is None:
        request, seq_id = chunk.request, session.next_sampling_session_seq_id()
        operation.chunks = (sampler_chunk(None, seq_id, request.ttl_seconds, kind=request.kind),)
