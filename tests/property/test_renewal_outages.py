"""P1 to P3 where a session ends and the network fails: whenever that is, who goes on ends as the undisturbed run."""

from __future__ import annotations

from typing import Any

import trio
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.clients.scenario import batch
from tests.clients.test_epochs import STEP, lose_session, run
from tests.runtime.test_crash_table import crash
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.errors import OutageError
from tinker_actors.ledger import Future
from tinker_actors.testing.simulation import Outcome, World

BOUND = 60.0
STEPS = 3
EXAMPLES = max(25, settings().max_examples // 4)
CLIENT = "runtime/sessions/session-0/clients/training-0"
MANAGER = "runtime/sessions/session-0/manager"


def train(
    *,
    ends: float | None = None,
    noticed: bool = True,
    breaks: float = 0.0,
    lasts: float = 0.0,
    crashes: list[str] | None = None,
) -> Outcome[tuple[list[float], list[OutageError]]]:
    """Steps accepted at once. The session ends after ``ends`` seconds; ``breaks`` seconds later, or after that was
    ``noticed``, the network fails for ``lasts``. Whoever is told of an outage goes on at once, and one of ``crashes``
    follows.
    """

    async def sabotage(world: World, client: TrainingClient) -> None:
        assert ends is not None
        await trio.sleep(ends)
        await lose_session(world, client)
        while noticed and world.runtime.counters().get("sessions_lost", 0) == 0:  # noqa: ASYNC110  # as a program would
            await trio.sleep(0.001)
        await trio.sleep(breaks)
        world.network.partition()
        await trio.sleep(lasts)
        world.network.heal()

    async def story(
        world: World, service: ServiceClient, client: TrainingClient
    ) -> tuple[list[float], list[OutageError]]:
        await (await client.save_state("first"))
        left: list[str] = list(crashes or [])
        losses: list[float] = []
        told: list[OutageError] = []
        async with trio.open_nursery() as nursery:
            if ends is not None:
                nursery.start_soon(sabotage, world, client)
            futures: list[Future[Any]] = []
            for step in range(STEPS):
                futures += [client.forward_backward_async(batch(step, step + 1)), client.optim_step_async(STEP)]
            while futures:
                error = await futures[0].exception()
                if error is None:
                    result = await futures.pop(0)
                    losses += [result.metrics["loss:sum"]] if hasattr(result, "loss_fn_outputs") else []
                    continue
                assert isinstance(error, OutageError), error
                assert client.verdict is error
                told.append(error)
                assert [await future.exception() for future in futures] == [error] * len(futures)
                again = await client.restore()
                assert len(again) == len(futures)
                futures = list(again)
                if left:
                    crash(world, left.pop())
        await trio.sleep(4.0 * BOUND)  # it may be told of an outage when all is done, too, while it is rebuilt
        if client.verdict is not None:
            assert await client.restore() == ()
            await world.settle()
        return losses, told

    return run(story, outage_bound=BOUND)


CALM = train()


@settings(max_examples=EXAMPLES)
@given(
    st.floats(0.0, 0.3),
    st.booleans(),
    st.one_of(st.floats(0.0, 0.2), st.floats(0.2, 2.0)),
    st.one_of(st.floats(0.0, 3.0 * BOUND), st.floats(3.0 * BOUND, 8.0 * BOUND)),
    st.lists(st.sampled_from([CLIENT, MANAGER]), max_size=2),
)
@example(0.01, True, 0.0, 5.0 * BOUND, [MANAGER, CLIENT])
@example(0.0, False, 0.5, 2.5 * BOUND, [CLIENT])
def test_whenever_the_session_ends_and_the_network_fails_who_goes_on_ends_as_undisturbed(
    ends: float, noticed: bool, breaks: float, lasts: float, crashes: list[str]
):
    outcome = train(ends=ends, noticed=noticed, breaks=breaks, lasts=lasts, crashes=crashes)
    assert outcome.value[0] == CALM.value[0]
    assert outcome.models[0].digest == CALM.models[0].digest
    assert outcome.left == ()


def test_these_runs_meet_the_outage_at_every_stage_of_the_renewal():
    stages = {"session-0 renew_session: ": 0, "training-0 rebuild: promised": 0, " replay of ": 0}
    for breaks in (0.0, 0.02, 0.06, 0.08, 0.1, 0.12, 0.15):
        outcome = train(ends=0.05, breaks=breaks, lasts=4.0 * BOUND)
        for error in outcome.value[1][:1]:
            for stage in stages:
                stages[stage] += any(stage in line for line in error.pending)
    assert all(stages.values()), stages
