"""The Model: one LoRA adapter on the server, its queue of operations, and what outlives its actor's incarnations.

Operations take effect in seq_id order, whatever order they arrive in. A seq_id is an identity: arriving again it
gives the first promise, and with another payload it is refused. Test switches make it as other servers are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, final

import trio

from tinker_actors.local.futures import FutureTable, Progress, ServerFuture
from tinker_actors.local.refusals import gone, invalid, out_of_order
from tinker_actors.local.storage import RunRecord
from tinker_actors.local.turns import Turns
from tinker_actors.local.work_queue import WorkQueue
from tinker_actors.server_class import ServerClass
from tinker_actors.types import (
    CreateModelRequest,
    ForwardBackwardRequest,
    LoadWeightsRequest,
    ModelIdRequest,
    OptimStepRequest,
    RequestErrorCategory,
    SaveWeightsExternalRequest,
    SaveWeightsForSamplerRequest,
    SaveWeightsRequest,
)

if TYPE_CHECKING:
    from tinker_actors.local.sampler import Sampler

__all__ = ["Model", "ModelRequest", "Operation", "kind_of"]

ModelRequest: TypeAlias = (
    CreateModelRequest
    | ForwardBackwardRequest
    | OptimStepRequest
    | SaveWeightsRequest
    | SaveWeightsForSamplerRequest
    | SaveWeightsExternalRequest
    | LoadWeightsRequest
    | ModelIdRequest
)

_KINDS: Mapping[type[ModelRequest], str] = {
    CreateModelRequest: "create_model",
    OptimStepRequest: "optim_step",
    SaveWeightsRequest: "save_state",
    SaveWeightsExternalRequest: "save_weights_external",
    SaveWeightsForSamplerRequest: "save_weights_for_sampler",
    LoadWeightsRequest: "load_state",
    ModelIdRequest: "unload_model",
}


def kind_of(request: ModelRequest) -> str:
    """The client's name for the operation."""
    if isinstance(request, ForwardBackwardRequest):
        return "forward" if request.forward_only else "forward_backward"
    return _KINDS[type(request)]


@final
class Operation:
    """One accepted request. ``seq_id`` 0 is the model's creation; None is not in the client's order (unload)."""

    __slots__ = ("digest", "future", "request", "seq_id")

    def __init__(self, seq_id: int | None, request: ModelRequest, digest: str, future: ServerFuture) -> None:
        self.seq_id = seq_id
        self.request = request
        self.digest = digest
        self.future = future

    @property
    def kind(self) -> str:
        """The client's name for it."""
        return kind_of(self.request)

    @property
    def changes_weights(self) -> bool:
        """Whether a crash in it leaves the model in an unknown state."""
        return self.kind not in ("forward", "save_state", "save_weights_external", "save_weights_for_sampler")

    def __str__(self) -> str:
        return self.kind if self.seq_id is None else f"{self.kind} (seq_id {self.seq_id})"


@final
class Model:
    """A plain object on the place of a model's actor. ``submit`` is called by requests, the rest by the actor."""

    def __init__(self, run: RunRecord, futures: FutureTable, turns: Turns, *, server_class: ServerClass) -> None:
        self.run = run
        self.created = trio.Event()
        """Set when the creation has ended, well or not."""
        self.corrupted: str | None = None
        self.closed: str | None = None
        self.unloading: ServerFuture | None = None
        self.in_engine = False
        self.over = False
        self.final_digest: str | None = None
        self.last_request_at = run.created_at
        self.inflight: list[Sampler] = []
        """Samplers that share this model's newest published weights."""
        self.queue: WorkQueue[Operation] = WorkQueue("operation", partial(turns.progress, run.owner, run.run_id))
        self._futures = futures
        self._class = server_class
        self._next_seq_id = 1
        self._early: dict[int, list[Operation]] = {}
        # ids, not futures: a result lives no longer than its retention
        self._promises: dict[int, tuple[str, str]] = {}

    @property
    def model_id(self) -> str:
        """Its id, which is also its run's."""
        return self.run.run_id

    @property
    def next_seq_id(self) -> int:
        """The lowest seq_id that has not arrived."""
        return self._next_seq_id

    @property
    def early(self) -> tuple[int, ...]:
        """The seq_ids that wait for a lower one to arrive."""
        return tuple(sorted(self._early))

    def create(self, request: CreateModelRequest | LoadWeightsRequest, future: ServerFuture) -> None:
        """Queue the creation itself, before anything else."""
        self._push(Operation(0, request, "", future))

    def promised(self, seq_id: int, request: ModelRequest, digest: str) -> str | None:
        """The id of the promise under this seq_id, if there is one.

        Refuses (400) another payload under a known seq_id.
        """
        known = self._promises.get(seq_id)
        if known is None or self._class is not ServerClass.DEDUP:
            return None
        if known[0] != digest:
            raise invalid(
                "seq_id",
                f"{seq_id} of {self.model_id} carries another payload ({kind_of(request)}) than when it first came",
                "Repeat a request unchanged, or give a new one the next seq_id",
            )
        return known[1]

    def submit(self, seq_id: int, request: ModelRequest, digest: str) -> str:
        """The id of the promise for ``request``: a new one, or the first one when this seq_id has been seen.

        Refuses as ``promised`` does, with 410 when the model is over, and with 409 a seq_id that is not due where the
        server is of the class "ordered".
        """
        known = self.promised(seq_id, request, digest)
        if known is not None:
            return known
        self.require_open()
        if self._class is ServerClass.ORDERED and seq_id != self._next_seq_id:
            raise out_of_order(f"seq_id: {self.model_id} expected {self._next_seq_id}, not {seq_id}")
        future = self._futures.create(
            self.run.owner, self.run.session_id, f"{kind_of(request)} (seq_id {seq_id}) of {self.model_id}"
        )
        operation = Operation(seq_id, request, digest, future)
        self._promises[seq_id] = (digest, future.request_id)
        if self._class is ServerClass.NONE:
            self._push(operation)
            self._next_seq_id = max(self._next_seq_id, seq_id + 1)
        elif seq_id > self._next_seq_id:
            self._early.setdefault(seq_id, []).append(operation)
            future.explain = self._gap
        else:
            self._push(operation)
            if seq_id == self._next_seq_id:
                self._advance()
        return future.request_id

    def require_open(self) -> None:
        """Refuse (410) when the model is over."""
        if self.closed is not None:
            raise gone(f"model {self.model_id}: {self.closed}. Create a new one and load the last checkpoint")

    def unload(self, request: ModelIdRequest, future: ServerFuture) -> None:
        """Queue the model's end behind what is ready."""
        self.unloading = future
        self._push(Operation(None, request, "", future))

    def close(self, why: str, *, abandon: bool) -> None:
        """Take nothing more.

        What waits for a seq_id that never came fails; with ``abandon`` so does what is ready.
        """
        if self.closed is None:
            self.closed = why
        for seq_id in sorted(self._early):
            for operation in self._early.pop(seq_id):
                self._fail(operation, f"it waited for seq_id {self._next_seq_id}, which did not arrive before: {why}")
        if abandon:
            for operation in self.queue.withdraw(lambda _: True):
                self._fail(operation, why)

    def crashed_in(self, operation: Operation) -> None:
        """The server has crashed in ``operation``: whether it took effect can't be known."""
        if operation.changes_weights:
            self.corrupted = f"the server crashed in {operation}, so the weights of {self.model_id} are not known"

    def _push(self, operation: Operation) -> None:
        operation.future.explain = self.queue.push(operation)

    def _advance(self) -> None:
        self._next_seq_id += 1
        while (operations := self._early.pop(self._next_seq_id, None)) is not None:
            for operation in operations:
                self._push(operation)
            self._next_seq_id += 1

    def _gap(self) -> Progress:
        return Progress("paused_capacity", f"waits for seq_id {self._next_seq_id}, which has not arrived")

    def _fail(self, operation: Operation, why: str) -> None:
        if operation.seq_id == 0:
            self.created.set()
        self._futures.fail(
            operation.future, f"{operation} of {self.model_id} was not run: {why}", RequestErrorCategory.USER
        )
