"""What is done with the measured actor is what the figures are named after."""

from __future__ import annotations

from benchmarks import actors


async def test_each_crash_is_a_restart() -> None:
    async with actors.open_measured() as system:
        ref = await system.start_child(actors.plain("actor"))
        await actors.crashes(ref)(30)
        assert ref.statistics().restarts == 30


async def test_every_cast_has_been_handled_on_return() -> None:
    async with actors.open_measured() as system:
        ref = await system.start_child(actors.plain("actor"))
        await actors.casts(ref)(2500)  # more than its mailbox holds
        assert ref.statistics().queued == 0
        assert await ref.call(actors.Get()) == 2500


async def test_children_are_as_many_as_asked_for() -> None:
    async with actors.open_measured() as system:
        supervisor = await actors.start_supervisor(system, "children")
        start = actors.start_children(supervisor)
        await start(7)
        await start(3)
        assert len(supervisor.children()) == 10
