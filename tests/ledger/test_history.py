"""What is kept to be applied again, and the states it can be applied to."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinker_actors.errors import DiskDamaged
from tinker_actors.flow.pending import PendingTable
from tinker_actors.ledger import Chunk, Cover, Ledger, Operation, OperationKind
from tinker_actors.types import (
    AdamParams,
    Datum,
    ForwardBackwardOutput,
    ForwardBackwardRequest,
    LoadWeightsRequest,
    LoadWeightsResponse,
    ModelInput,
    OptimStepRequest,
    OptimStepResponse,
    SaveWeightsRequest,
    SaveWeightsResponse,
)

DATUM = Datum(ModelInput.from_ints([1]), {"target_tokens": [1]})
REQUESTS: dict[str, tuple[OperationKind, Any, Any]] = {
    "f": (
        OperationKind.FORWARD_BACKWARD,
        ForwardBackwardRequest(model_id="", seq_id=0, data=(DATUM,), loss_fn="cross_entropy"),
        ForwardBackwardOutput(loss_fn_output_type="", loss_fn_outputs=(), metrics={}),
    ),
    "o": (OperationKind.OPTIM_STEP, OptimStepRequest(model_id="", seq_id=0, adam_params=AdamParams()), None),
    "s": (OperationKind.SAVE_STATE, SaveWeightsRequest(model_id="", seq_id=0, path="x"), None),
    "l": (OperationKind.LOAD_STATE, LoadWeightsRequest(model_id="", seq_id=0, path="p", optimizer=False), None),
}
RESULTS = {"o": OptimStepResponse(), "l": LoadWeightsResponse(path="p")}


def operations() -> list[Operation]:
    """All that something in this process holds."""
    gc.collect()
    return [one for one in gc.get_objects() if type(one) is Operation]


def filled(kinds: str, replay_bytes: int = 10**9, size: int = 10, waiting: str = "") -> Ledger:
    """A ledger in which operations of ``kinds`` are done, but for those whose op_no is a digit in ``waiting``."""
    ledger = Ledger(
        "m", PendingTable(), lambda: "key", max_pending=10**6, max_pending_bytes=10**12, replay_bytes=replay_bytes
    )
    ledger.begin("model", 0)
    for op_no, letter in enumerate(kinds, 1):
        kind, request, result = REQUESTS[letter]
        assert ledger.admission.try_enter(size)
        operation = ledger.accept(kind, (Chunk(request, "digest", size),))
        sending = ledger.start_sending(operation)
        ledger.promise(operation, 0, "r")
        assert ledger.at(operation, sending)
        if str(op_no) not in waiting:
            ledger.finish(operation, result or RESULTS.get(letter) or SaveWeightsResponse(path=f"saved-{op_no}"))
    return ledger


def kept(ledger: Ledger, after: int = 0) -> list[int]:
    assert ledger.history is not None
    return [operation.op_no for operation in ledger.history.since(after)]


CASES: list[tuple[str, list[tuple[int, str | None]]]] = [
    ("", [(0, None)]),
    ("fo", [(0, None)]),
    ("fofs", [(2, "saved-4"), (0, None)]),
    ("sfo", [(0, "saved-1"), (0, None)]),
    ("fosofos", [(6, "saved-7"), (2, "saved-3")]),
    ("fol", [(3, "p"), (0, None)]),
    ("folfs", [(3, "saved-5"), (3, "p")]),
    ("fosfs", [(2, "saved-5"), (2, "saved-3")]),
]


@pytest.mark.parametrize(("kinds", "covers"), CASES)
async def test_a_state_is_that_of_the_last_update_before_it(kinds: str, covers: list[tuple[int, str | None]]):
    found = [(cover.op_no, cover.path) for cover in filled(kinds).covers()]
    assert found == covers


async def test_a_load_without_optimizer_is_a_state_without_one():
    assert filled("fol").covers()[0] == Cover(3, "p", optimizer=False)


async def test_no_state_behind_what_has_no_result_yet():
    assert [cover.op_no for cover in filled("fofos", waiting="3").covers()] == [0]
    assert [cover.op_no for cover in filled("fofs", waiting="3").covers()] == [2, 0]
    # the step that waits is in the checkpoint: going on from there would lose its result
    assert [cover.path for cover in filled("fos", waiting="2").covers()] == [None]


async def test_what_came_before_the_checkpoint_before_the_newest_is_let_go():
    assert kept(filled("fofo")) == [1, 2, 3, 4]
    assert kept(filled("fosfo")) == [1, 2, 4, 5]
    assert kept(filled("fosfosfo")) == [4, 5, 7, 8]


async def test_of_too_many_bytes_the_oldest_go_and_no_state_is_promised_that_could_not_be_had(
    caplog: pytest.LogCaptureFixture,
):
    ledger = filled("fosfos", replay_bytes=25)
    assert kept(ledger) == [4, 5]
    assert [cover.path for cover in ledger.covers()] == ["saved-6", "saved-3"]
    assert "Save its state" not in caplog.text
    ledger = filled("fosfofofo", replay_bytes=25)
    assert kept(ledger) == [8, 9]
    assert ledger.covers() == ()
    assert caplog.text.count("Save its state more often") == 1


@given(st.text("fosl", max_size=30), st.integers(10, 200), st.text("123456789", max_size=2))
def test_from_each_state_all_that_came_after_is_kept(kinds: str, replay_bytes: int, waiting: str):
    import trio

    async def check() -> None:
        ledger = filled(kinds, replay_bytes, waiting=waiting)
        assert ledger.history is not None
        statistics = ledger.history.statistics()
        assert statistics.bytes <= replay_bytes
        assert statistics.bytes == 10 * statistics.operations
        open_ = [number for number in range(1, len(kinds) + 1) if str(number) in waiting]
        for cover in ledger.covers():
            assert all(cover.op_no < number for number in open_)
            due = [
                number
                for number in range(cover.op_no + 1, len(kinds) + 1)
                if kinds[number - 1] in "fol" and number not in open_
            ]
            assert kept(ledger, cover.op_no) == due
            if cover.path is not None and cover.path != "p":
                saved = int(cover.path.removeprefix("saved-"))
                assert not set(kinds[cover.op_no : saved - 1]) & set("ol")

    trio.run(check)


async def test_an_operation_that_is_done_holds_no_result():
    ledger = filled("f")
    assert ledger.history is not None
    (operation,) = ledger.history.since(0)
    assert isinstance(operation, Operation)
    assert operation.replayed
    assert operation.chunks


async def test_without_a_policy_nothing_is_kept():
    ledger = Ledger("m", PendingTable(), lambda: "key", max_pending=10, max_pending_bytes=1000)
    assert ledger.history is None
    assert ledger.covers() == ()


async def test_a_state_that_shows_what_can_t_be_read_any_more_is_none_to_go_on_from():
    ledger = filled("fofos", waiting="3")
    ledger.lose("the server was restarted")
    operation = ledger.find(3)
    assert operation is not None
    ledger.unreadable(operation, DiskDamaged(Path("/spilled"), "does not hold it", "Check the disk"))
    assert [(cover.op_no, cover.path) for cover in ledger.covers()] == [(0, None)]
    with pytest.raises(DiskDamaged):
        await operation.future


async def test_what_is_kept_no_more_is_held_by_nobody():
    before = operations()
    ledger = filled("fofos" * 60)
    assert ledger.history is not None
    kept = ledger.history.statistics().operations
    assert kept < 10
    held = len(operations()) - len(before)
    assert held == kept, "whoever trains for weeks would have all of it in memory"
