"""What has been done to a model, kept for as long as it may have to be done again, and from where."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, final

import msgspec

from tinker_actors.ledger.operation import Chunk, Operation, OperationKind
from tinker_actors.ledger.outcome import check_sum
from tinker_actors.types import LoadWeightsRequest, SaveWeightsForSamplerRequest

__all__ = ["UPDATES", "Cover", "History", "HistoryStatistics", "in_memory"]

UPDATES = (OperationKind.OPTIM_STEP, OperationKind.LOAD_STATE)
"""What changes weights."""


class Cover(msgspec.Struct, frozen=True):
    """A state that a model can be given again: the one after operation ``op_no``, its latest update or load then.

    0 is its creation. ``path`` None: as it was created; ``optimizer``: whether the state has one to be loaded;
    ``access_token``: its owner's leave to read it, where it is another's.
    """

    op_no: int
    path: str | None = None
    optimizer: bool = True
    access_token: str | None = None

    def __repr__(self) -> str:
        return f"Cover({self.op_no}, {self.path!r}, optimizer={self.optimizer})"  # a token is nobody's to read

    def __str__(self) -> str:
        return "its creation" if self.path is None else self.path


class HistoryStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """How many operations are kept and how many bytes of requests they have; ``since``: all after this op_no are."""

    operations: int
    bytes: int
    since: int


@final
class History:
    """Finished operations of one model that change its weights or gradients, or whose samplers live.

    All of them since ``floor`` are there. What came before the checkpoint before the newest is let go, and when there
    is too little room what came before the newest, then the oldest. ``max_bytes`` is the room in memory.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._kept: dict[int, Operation] = {}
        self._in_memory: OrderedDict[int, Operation] = OrderedDict()  # those of them that may leave it, in turn
        self._bytes = 0
        self._floor = 0
        self._updates: list[int] = []
        self._states: dict[int, tuple[str, bool, str | None]] = {}  # by op_no of the save or load: see add_state

    def done(self, operation: Operation, chunks: tuple[Chunk, ...], result: Any) -> bool:
        """``operation``, which was ``chunks``, has its ``result``, or None; False when nothing of it is kept."""
        op_no, kind = operation.op_no, operation.kind
        if kind in (OperationKind.FORWARD, OperationKind.SAVE_WEIGHTS_EXTERNAL):
            return False
        if kind is OperationKind.SAVE_STATE:
            if result is not None:
                self.add_state(op_no, result.path, optimizer=True)
            return True
        request = chunks[0].request
        if isinstance(request, SaveWeightsForSamplerRequest) and request.path is not None:
            return False  # its path stays the answer
        operation.chunks = chunks
        operation.outcome = check_sum(result)
        self.add(operation)
        if isinstance(request, LoadWeightsRequest):
            token = request.weights_access_token
            self.add_state(op_no, request.path, optimizer=request.optimizer, access_token=token)
        return True

    def add(self, operation: Operation) -> None:
        """``operation`` is done; it keeps its chunks."""
        if operation.op_no <= self._floor:
            return
        self._kept[operation.op_no] = operation
        self._bytes += operation.size
        self._in_memory[operation.op_no] = operation
        if operation.kind in UPDATES:
            insort(self._updates, operation.op_no)

    def add_state(self, op_no: int, path: str, *, optimizer: bool, access_token: str | None = None) -> None:
        """The save or load ``op_no`` is done: what ``path``, readable with ``access_token``, holds is the state."""
        self._states[op_no] = (path, optimizer, access_token)

    def forget(self, op_no: int) -> None:
        """``op_no`` is not to be done again."""
        operation = self._kept.pop(op_no, None)
        self._in_memory.pop(op_no, None)
        if operation is not None:
            self._bytes -= operation.size

    def distrust(self, op_no: int) -> None:
        """``op_no`` is not to have happened: states after it may show it, and are none to go on from."""
        self._states = {number: state for number, state in self._states.items() if number < op_no}

    def since(self, op_no: int) -> tuple[Operation, ...]:
        """What is kept of the operations after ``op_no``, in order."""
        return tuple(self._kept[number] for number in sorted(self._kept) if number > op_no)

    def covers(self, unfinished: tuple[Operation, ...]) -> tuple[Cover, ...]:
        """The states from which all can be done again, the newest first, and of one state the newest checkpoint.

        None lies behind an ``unfinished`` operation: its result would be lost.
        """
        first = min((operation.op_no for operation in unfinished), default=None)
        waiting = [operation.op_no for operation in unfinished if operation.kind in UPDATES]
        found: list[tuple[int, int, Cover]] = []
        for op_no, (path, optimizer, access_token) in self._states.items():
            shown = self._shown(op_no, waiting)
            found.append((shown, op_no, Cover(shown, path, optimizer, access_token)))
        found.append((0, 0, Cover(0)))
        found.sort(key=lambda one: one[:2], reverse=True)
        return tuple(cover for shown, _, cover in found if shown >= self._floor and (first is None or shown < first))

    @property
    def bytes(self) -> int:
        """Estimated bytes of the requests that are kept, wherever they are."""
        return self._bytes

    def trim(self, unfinished: tuple[Operation, ...], room: int) -> bool:
        """Let go what is not needed any more, and of the rest what can be, until ``room`` bytes do; False when they
        don't.
        """
        states = [cover.op_no for cover in self.covers(unfinished) if cover.path is not None]
        if len(states) > 1:
            self._drop(states[1])
        if self._bytes > room and states:
            self._drop(states[0])
        return self._bytes <= room

    def let_go(self, room: int) -> None:
        """Let go the oldest, needed or not, until ``room`` bytes do."""
        for number in sorted(self._kept):
            self._drop(number)
            if self._bytes <= room:
                break

    def next_in_memory(self, stays: Callable[[Operation], bool]) -> Operation | None:
        """The oldest whose payloads are in memory and can leave it, and which nobody ``stays`` for; not given again
        until ``add`` or ``again`` says so.
        """
        while self._in_memory:
            _, operation = self._in_memory.popitem(last=False)
            if not stays(operation) and in_memory(operation):
                return operation
        return None

    def again(self, operation: Operation) -> None:
        """The payloads of ``operation``, if it is one of these, are in memory and can leave it."""
        if self._kept.get(operation.op_no) is operation:
            self._in_memory[operation.op_no] = operation
            self._in_memory.move_to_end(operation.op_no, last=False)

    def clear(self) -> None:
        """The model is over."""
        self._kept.clear()
        self._in_memory.clear()
        self._states.clear()
        self._updates.clear()
        self._bytes = 0

    def statistics(self) -> HistoryStatistics:
        """Numbers for people and tests."""
        return HistoryStatistics(operations=len(self._kept), bytes=self._bytes, since=self._floor)

    def _drop(self, floor: int) -> None:
        if floor <= self._floor:
            return
        self._floor = floor
        for number in [number for number in self._kept if number <= floor]:
            self.forget(number)
        # the update at the floor itself says which state the checkpoints after it show
        self._updates = [number for number in self._updates if number >= floor]
        self._states = {number: state for number, state in self._states.items() if self._shown(number, []) >= floor}

    def _shown(self, op_no: int, waiting: list[int]) -> int:
        """The latest update that the state of ``op_no`` shows: a load is one itself."""
        place = bisect_right(self._updates, op_no)
        done = self._updates[place - 1] if place else 0
        return max([done, *(number for number in waiting if number < op_no)])


def in_memory(operation: Operation) -> bool:
    """Whether ``operation`` has data in memory that could as well be on a disk."""
    return any(chunk.data is not None and chunk.stored is None for chunk in operation.chunks)
