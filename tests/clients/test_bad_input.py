"""Bad values of training and sampling calls: one InvalidInput, which names the place and what is allowed."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.clients.bad_values import BAD_VALUES, BadValue, datum_for
from tests.clients.odd_server import ask
from tests.clients.scenario import train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.errors import InvalidInput
from tinker_actors.runtime import Runtime
from tinker_actors.testing.simulation import World
from tinker_actors.types import LOSS_FNS, AdamParams, Datum, ModelInput, SamplingParams

OPTIONAL = {
    "cross_entropy": {"weights": [[1.0, 0.0]] * 3, "target_tokens": [[1, 2]] * 3},
    "ppo": {"clip_low_threshold": [0.5] * 3, "clip_high_threshold": [1.5] * 3, "weights": [1.0] * 3},
    "stable_reinforce": {"logprobs": None},
}


@pytest.mark.parametrize("bad", BAD_VALUES.values(), ids=BAD_VALUES.keys())
def test_a_bad_value_is_named_and_costs_nothing(bad: BadValue):
    call, said = bad

    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await client.save_weights_and_get_sampling_client("kept")
        earlier = await client.optim_step(AdamParams())
        before = client.accepted
        sent = world.network.statistics().requests
        with pytest.raises(InvalidInput, match=said):
            await call(service, client, sampler)
        assert world.network.statistics().requests - sent <= 1, "nothing but a heartbeat"
        assert client.accepted == before
        await earlier
        await (await client.optim_step(AdamParams()))
        response = await sampler.sample(ModelInput.from_ints([1]), 1, SamplingParams(max_tokens=1))
        assert str(response.sequences[0].sequence_id).endswith(":0:0"), "no number was used up"

    applied = train(story).models[0].applied
    assert [operation.kind for operation in applied] == ["save_weights_for_sampler", "optim_step", "optim_step"]
    assert [operation.seq_id for operation in applied] == [1, 2, 3], "no number had to be filled"


@pytest.mark.parametrize("loss_fn", [name for name in LOSS_FNS if name != "custom"])
def test_what_a_loss_takes_is_taken(loss_fn: str):
    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        for changes in ({}, OPTIONAL.get(loss_fn, {})):
            await (await client.forward_backward([datum_for(loss_fn, **changes)], loss_fn, {"its_own": math.inf}))

    ask(story, {})


@pytest.mark.parametrize(("loss_fn", "listed"), [("grpo", ("grpo",)), ("ppo", ["ppo"])])
def test_inputs_of_a_named_extra_loss_are_left_to_the_server(loss_fn: str, listed: Any):
    inputs = {**datum_for("ppo").loss_fn_inputs, "returns": datum_for("ppo").tensor("advantages")}
    datum = Datum(ModelInput.from_ints([1, 2, 3]), inputs)

    async def story(runtime: Runtime) -> None:
        client = await (await runtime.create_service_client()).create_lora_training_client("a/b", 2)
        await (await client.forward_backward([datum], loss_fn))
        with pytest.raises(InvalidInput, match="returns"):
            await client.forward_backward([datum], "importance_sampling")
        with pytest.raises(InvalidInput, match="is not known"):
            await client.forward_backward([datum], "dapo")

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked, extra_loss_fns=listed)
    assert [name for name, _ in asked].count("forward_backward") == 1
