"""Order and exactness where pipelining, custom losses and cancellations are mixed, with faults and lost models: what
was not taken back ends as in an undisturbed run of just that, and each Future settles once.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import Any, Literal

import autograd.numpy as anp
import msgspec
import trio
from hypothesis import event, given, settings
from hypothesis import strategies as st

from supervision import ActorCrashed
from tinker_actors.clients import TrainingClient
from tinker_actors.config import Config, RecoveryPolicy
from tinker_actors.errors import OperationCancelled
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import FaultPlan, Status
from tinker_actors.testing.operations import BASE_MODEL, datum, fault_plans, start_client
from tinker_actors.testing.simulation import Outcome, World, simulate
from tinker_actors.types import AdamParams

PATIENT = Config.load(
    base_url="https://server",
    api_key="tml-test",
    environ={},
    outage_bound=3600.0,
    recovery=RecoveryPolicy(max_attempts=1000),
)
EXAMPLES = max(100, settings().max_examples)


class Step(msgspec.Struct, frozen=True):
    """One operation: "plain", "custom" or "update", and when it is to be taken back, if that can be: at once, when
    all have been submitted, or never.
    """

    kind: str
    seeds: tuple[int, ...]
    take_back: Literal["now", "later"] | None


STEPS = st.lists(
    st.builds(
        Step,
        st.sampled_from(["plain", "custom", "update", "update"]),
        st.lists(st.integers(0, 99), min_size=1, max_size=4).map(tuple),
        st.sampled_from([None, None, "now", "later"]),
    ),
    min_size=1,
    max_size=8,
)
LOSSES = st.lists(
    st.builds(
        lambda path, nth: Status(path=path, nth=nth, status=410),
        st.sampled_from(["/retrieve_future", "/forward_backward", "/optim_step"]),
        st.integers(2, 12),
    ),
    max_size=2,
)


def squares(data: Any, logprobs: Any) -> Any:
    return sum(anp.sum(row**2) for row in logprobs), {"datums:sum": len(data)}


async def submit(client: TrainingClient, step: Step) -> Any:
    data = [datum(seed) for seed in step.seeds]
    match step.kind:
        case "plain":
            return await client.forward_backward(data)
        case "custom":
            return await client.forward_backward_custom(data, squares, differentiation="autograd")
        case _:
            return await client.optim_step(AdamParams(learning_rate=1e-2))


def run(steps: list[Step], plan: FaultPlan, seed: int, taken_back: set[int] | None) -> Outcome[dict[int, Any]]:
    """The results of ``steps`` by their place, None for those taken back; with ``taken_back`` those are left out."""

    async def scenario(world: World) -> dict[int, Any]:
        service = await world.runtime.create_service_client()
        client = world.watch(await start_client(service))
        futures: dict[int, Any] = {}
        settled: Counter[int] = Counter()
        for place, step in enumerate(steps):
            if taken_back is not None and place in taken_back:
                continue
            futures[place] = await submit(client, step)
            futures[place].when_done(partial(settled.update, [place]))
            if taken_back is None and step.take_back == "now":
                futures[place].cancel()
        await trio.sleep(0.02)
        for place, future in futures.items():
            if taken_back is None and steps[place].take_back == "later":
                future.cancel()
        results: dict[int, Any] = {}
        for place, future in futures.items():
            try:
                result = await future
            except OperationCancelled:
                results[place] = None
            else:
                results[place] = dict(result.metrics or {}) if steps[place].kind != "update" else "done"
        await world.settle()
        assert settled == dict.fromkeys(futures, 1)
        return results

    return simulate(
        scenario,
        seed=seed,
        plan=plan,
        settings=ServerSettings(base_model=BASE_MODEL, fwdbwd_max_chunk_len=2),
        config=PATIENT,
        limit=50_000.0,
    )


@settings(max_examples=EXAMPLES)
@given(STEPS, fault_plans(), LOSSES, st.integers(0, 2**32 - 1))
def test_what_was_not_taken_back_ends_as_if_nothing_else_had_been(
    steps: list[Step], plan: FaultPlan, losses: list[Status], seed: int
):
    broken = run(steps, FaultPlan((*plan.faults, *losses)), seed, None)
    gone = {place for place, result in broken.value.items() if result is None}
    event(f"taken back: {min(len(gone), 3)}, models lost: {min(broken.counters.get('models_lost', 0), 2)}")
    crashes = [event.crash.text for event in broken.events if isinstance(event, ActorCrashed)]
    assert all("InjectedCrash" in text for text in crashes), crashes
    calm = run(steps, FaultPlan(()), 0, gone)
    assert {place: result for place, result in broken.value.items() if place not in gone} == calm.value
    assert broken.models[0].digest == calm.models[0].digest
