"""One accepted operation: what it is, where it went, what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias, final

import msgspec

from tinker_actors.codec.protobuf import Buffers
from tinker_actors.flow.pending import PendingEntry
from tinker_actors.ledger.future import Future
from tinker_actors.ports.spans import NO_SPAN, Span
from tinker_actors.types.requests import (
    ForwardBackwardRequest,
    LoadWeightsRequest,
    OptimStepRequest,
    SaveWeightsForSamplerRequest,
    SaveWeightsRequest,
)
from tinker_actors.types.weights import SaveWeightsExternalRequest

__all__ = [
    "AcceptedOperation",
    "Chunk",
    "LocalLoss",
    "Operation",
    "OperationKind",
    "OperationState",
    "Sending",
    "Stored",
    "TrainingRequest",
]

TrainingRequest: TypeAlias = (
    ForwardBackwardRequest
    | OptimStepRequest
    | SaveWeightsRequest
    | SaveWeightsForSamplerRequest
    | SaveWeightsExternalRequest
    | LoadWeightsRequest
)


class OperationKind(StrEnum):
    """The operations that carry a seq_id."""

    FORWARD = "forward"
    FORWARD_BACKWARD = "forward_backward"
    FORWARD_BACKWARD_CUSTOM = "forward_backward_custom"
    OPTIM_STEP = "optim_step"
    SAVE_STATE = "save_state"
    SAVE_WEIGHTS_FOR_SAMPLER = "save_weights_for_sampler"
    SAVE_WEIGHTS_EXTERNAL = "save_weights_external"
    LOAD_STATE = "load_state"


class OperationState(StrEnum):
    """accepted -> sent -> promised -> done | failed | cancelled | verdict."""

    ACCEPTED = "accepted"
    SENT = "sent"
    PROMISED = "promised"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    VERDICT = "verdict"


@final
class Stored:
    """Where on the disk the data of a chunk is, which is kept there for as long as this is held, and its numbers."""

    __slots__ = ("__weakref__", "datums", "length", "offset", "path", "tokens")

    def __init__(self, path: Path, offset: int, length: int, *, datums: int, tokens: int) -> None:
        self.path = path
        self.offset = offset
        self.length = length
        self.datums = datums
        self.tokens = tokens


_CHANGES = (
    OperationKind.FORWARD_BACKWARD,
    OperationKind.FORWARD_BACKWARD_CUSTOM,
    OperationKind.OPTIM_STEP,
    OperationKind.LOAD_STATE,
)


class Chunk(msgspec.Struct, frozen=True):
    """One request of an operation, its boundaries frozen at acceptance.

    ``request`` lacks model_id and seq_id, which depend on where it is sent; ``digest`` names its content and
    ``size`` estimates its bytes on the wire. ``data`` is its data as it will be sent, encoded once: a row of buffers,
    most of them the arrays' own memory. Once it is ``stored`` on the disk, the request has no data of its own, and
    ``data`` is there only while it is being sent.
    """

    request: TrainingRequest
    digest: str
    size: int
    data: Buffers | None = None
    stored: Stored | None = None

    @property
    def tokens(self) -> int:
        """Tokens of its data's inputs; images that don't say how many they become count none."""
        if self.stored is not None:
            return self.stored.tokens
        if not isinstance(self.request, ForwardBackwardRequest):
            return 0
        return sum(datum.model_input.known_length or 0 for datum in self.request.data)

    @property
    def datums(self) -> int:
        """How many datums it has."""
        if self.stored is not None:
            return self.stored.datums
        return len(self.request.data) if isinstance(self.request, ForwardBackwardRequest) else 0

    @property
    def away(self) -> bool:
        """Whether its data is on the disk only."""
        return self.stored is not None and self.data is None


class LocalLoss(msgspec.Struct, frozen=True, kw_only=True):
    """What a loss that was computed here has given, besides its gradient."""

    value: float
    metrics: Mapping[str, float]


class AcceptedOperation(msgspec.Struct, frozen=True):
    """The record of one acceptance, kept for as long as the ledger lives."""

    op_no: int
    kind: OperationKind
    digests: tuple[str, ...]


class Sending(msgspec.Struct):
    """Where an operation went: one mapping (epoch, model_id, seq_id for each chunk) -> request_id.

    ``keys`` are the idempotency keys, one for each chunk and the same for every re-send. ``results`` holds what
    each chunk gave, so that a restarted client asks only for what is missing. ``doubts`` says of each chunk whether
    a try that brought no promise may have reached the server all the same, ``roundtrips`` the seconds until its
    promise.
    """

    epoch: int
    model_id: str
    generation: int
    """Of the session that the model belongs to."""
    first_seq_id: int
    keys: tuple[str, ...]
    request_ids: list[str | None]
    results: list[Any]
    doubts: list[bool]
    roundtrips: list[float | None]
    assumed: set[int] = msgspec.field(default_factory=set[int])
    """Chunks without a promise that the user has said to have arrived."""
    not_before: float = 0.0
    """The end of the pause that the server has asked for, also of the next incarnation."""

    def missing(self) -> list[int]:
        """The chunks that are still to be sent."""
        return [i for i, request_id in enumerate(self.request_ids) if request_id is None and i not in self.assumed]

    @property
    def complete(self) -> bool:
        """True when every chunk has its promise."""
        return all(request_id is not None for request_id in self.request_ids)


@final
class Operation:
    """One accepted operation. Its ledger alone changes it.

    One that is done may be applied again to a model that takes the place of a lost one: then nobody waits for it, and
    ``outcome`` tells whether it has given the same as before. A custom loss has two turns: its chunks are those of a
    forward pass until its gradient is there (``half``), then those of the backward pass, which is all that is ever
    repeated.
    """

    __slots__ = (
        "_future",
        "admitted",
        "automatic",
        "chunks",
        "entry",
        "kind",
        "left",
        "local",
        "op_no",
        "outcome",
        "sending",
        "span",
        "state",
        "updates",
    )

    def __init__(
        self,
        op_no: int,
        kind: OperationKind,
        chunks: tuple[Chunk, ...],
        future: Future[Any],
        entry: PendingEntry,
        *,
        span: Span = NO_SPAN,
        automatic: bool = False,
    ) -> None:
        self.op_no = op_no
        self.kind = kind
        self.chunks = chunks
        self._future: Future[Any] | None = future
        self.entry = entry
        self.span = span
        self.state = OperationState.ACCEPTED
        self.sending: Sending | None = None
        self.left: tuple[str, ...] = ()
        """Of an automatic one: the lost models that it was sent to, which may have done it."""
        self.admitted = self.size
        """The bytes that were let in."""
        self.automatic = automatic
        """Whether no caller has asked for it: its failure is nobody's, and it holds no place of those admitted."""
        self.local: LocalLoss | None = None
        """Of a custom loss, once it has been computed."""
        self.updates = 0
        """How many updates of the weights were accepted by then, itself included, whatever became of them."""
        self.outcome: int | None = None
        """A check sum of its result."""

    @property
    def future(self) -> Future[Any]:
        """Where its caller waits."""
        assert self._future is not None, "a replayed operation has no caller"
        return self._future

    @property
    def half(self) -> bool:
        """Whether a custom loss is still in its forward pass."""
        return self.kind is OperationKind.FORWARD_BACKWARD_CUSTOM and self.local is None

    @property
    def replayed(self) -> bool:
        """Whether its caller has had its result from an earlier model."""
        return self._future is None

    @property
    def changes_model(self) -> bool:
        """Whether it leaves the model other than it was."""
        return self.kind in _CHANGES

    def wait_anew(self, future: Future[Any]) -> None:
        """Its caller was told that it is undecided; whoever decides waits by ``future``."""
        self._future = future

    def leave(self) -> None:
        """The model that it may have been sent to is lost."""
        if self.automatic and self.sending is not None:
            self.left += (self.sending.model_id,)
        self.sending = None

    def settle(self) -> None:
        """Its caller has the result, which is nobody else's to hold."""
        self._future = None
        self.span = NO_SPAN

    @property
    def size(self) -> int:
        """Estimated bytes of all chunks."""
        return sum(chunk.size for chunk in self.chunks)

    @property
    def away(self) -> bool:
        """Whether it has data that is on the disk only, and has to be read before it can be sent."""
        return any(chunk.away for chunk in self.chunks)

    @property
    def name(self) -> str:
        """Such as "#7"."""
        return f"#{self.op_no}"

    def __repr__(self) -> str:
        return f"<Operation {self.name} {self.kind} {self.state}>"
