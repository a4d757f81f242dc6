"""Bad values, closed clients, wrong places: one typed error at the call, nothing accepted, nobody hurt."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import trio

from tests.clients.scenario import batch, train
from tinker_actors.clients import SamplingClient, ServiceClient, TrainingClient
from tinker_actors.errors import APIStatusError, ClosedError, InvalidInput, TinkerError, WrongPlace
from tinker_actors.runtime import Runtime
from tinker_actors.testing.operations import BASE_MODEL
from tinker_actors.testing.simulation import World
from tinker_actors.tokenizers import tokenizer_for
from tinker_actors.types import AdamParams, ModelInput, SamplingParams

PROMPT = ModelInput.from_ints([1, 2])
SHORT = SamplingParams(max_tokens=2)
ODD: tuple[Any, ...] = (None, True, -1, 1.5, float("nan"), "", "\ud800", [], object(), np.bool_(True), 10**5000)
KINDS = ("none", "bool", "negative", "fraction", "nan", "empty", "surrogate", "list", "object", "bool_", "huge")

Calls = dict[str, Callable[[], Any]]


def _calls(service: ServiceClient, client: TrainingClient, sampler: SamplingClient, odd: Any) -> Calls:
    return {
        "base_model": lambda: service.create_lora_training_client(odd),
        "rank": lambda: service.create_lora_training_client(BASE_MODEL, odd),
        "model_path": lambda: service.create_sampling_client(model_path=odd),
        "name": lambda: client.save_state(odd),
        "path": lambda: client.load_state(odd),
        "adam_params": lambda: client.optim_step(odd),
        "data": lambda: client.forward_backward(odd),
        "datum": lambda: client.forward_backward([odd]),
        "loss_fn": lambda: client.forward_backward(batch(1), odd),
        "loss_fn_config": lambda: client.forward_backward(batch(1), "cross_entropy", {odd: 1.0}),
        "prompt": lambda: sampler.sample(odd),
        "num_samples": lambda: sampler.sample(PROMPT, odd),
    }


@pytest.mark.parametrize("odd", ODD, ids=KINDS)
def test_an_odd_value_is_refused_at_the_call(odd: object):
    async def story(_: World, service: ServiceClient, client: TrainingClient):
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        for what, call in _calls(service, client, sampler, odd).items():
            if isinstance(odd, list) and what == "loss_fn_config":
                continue  # no key of a dict
            with pytest.raises(InvalidInput):
                await call()
        assert client.accepted == ()
        await (await client.optim_step(AdamParams()))
        await sampler.sample(PROMPT, 1, SHORT)

    outcome = train(story)
    assert [operation.kind for operation in outcome.models[0].applied] == ["optim_step"]


@pytest.mark.parametrize("odd", ODD, ids=KINDS)
@pytest.mark.parametrize(
    "field", ["ttl_seconds", "seed", "user_metadata", "tags", "setting", "topk", "flag", "params"]
)
def test_an_odd_value_is_refused_or_served(field: str, odd: Any):
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        calls: Calls = {
            "ttl_seconds": lambda: client.save_state("name", odd),
            "seed": lambda: service.create_lora_training_client(BASE_MODEL, 2, odd),
            "user_metadata": lambda: world.runtime.create_service_client(user_metadata={"key": odd}),
            "tags": lambda: world.runtime.create_service_client(tags=(odd,)),
            "setting": lambda: client.forward_backward(batch(1), "cross_entropy", {"setting": odd}),
            "topk": lambda: sampler.sample(PROMPT, 1, SHORT, topk_prompt_logprobs=odd),
            "flag": lambda: sampler.sample(PROMPT, 1, SHORT, include_prompt_logprobs=odd),
            "params": lambda: sampler.sample(PROMPT, 1, odd if odd is not None else SHORT),
        }
        try:
            made = await calls[field]()
            if field in ("ttl_seconds", "setting"):
                await made
        except (InvalidInput, APIStatusError):
            pass
        await (await client.optim_step(AdamParams()))  # the client is well

    train(story)


def test_the_numbers_of_numpy_are_numbers():
    async def story(_: World, service: ServiceClient, client: TrainingClient) -> tuple[str, str]:
        other = await service.create_lora_training_client(BASE_MODEL, np.int64(2), np.int32(7))
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        params = SamplingParams(
            max_tokens=np.int16(2), seed=np.uint8(3), temperature=np.float32(1), stop=[np.int64(5)]
        )
        response = await sampler.sample(PROMPT, np.int64(2), params, topk_prompt_logprobs=np.int8(1))
        assert len(response.sequences) == 2
        await (await other.save_state("name", np.int64(60)))
        await (await other.optim_step(AdamParams(learning_rate=np.float64(0.5), eps=1)))
        return other.model_id, client.model_id

    train(story)


def test_a_batch_that_can_be_read_only_once_is_refused():
    async def story(_: World, __: ServiceClient, client: TrainingClient):
        with pytest.raises(InvalidInput, match="list of Datum"):
            await client.forward_backward(iter(batch(1, 2)))
        assert client.accepted == ()

    train(story)


def test_the_digests_of_whole_learning_rates_agree():
    async def story(_: World, __: ServiceClient, client: TrainingClient):
        await (await client.optim_step(AdamParams(learning_rate=1, weight_decay=0)))

    (model,) = train(story).models
    assert [operation.digest for operation in model.applied] == list(model.accepted[0].digests)


@pytest.mark.parametrize("odd", [None, 5, b"text", "\ud800", ["a"]])
def test_text_that_is_none_has_no_tokens(odd: Any):
    with pytest.raises(InvalidInput, match="text"):
        tokenizer_for(BASE_MODEL).encode(odd)


@pytest.mark.parametrize("odd", [None, 5, "text", [-1], [1.5], [2**40], [[1]], np.array([-1])])
def test_tokens_that_are_none_have_no_text(odd: Any):
    with pytest.raises(InvalidInput, match="tokens"):
        tokenizer_for(BASE_MODEL).decode(odd)


# closed and foreign


def _uses(runtime: Runtime, service: ServiceClient, client: TrainingClient, sampler: SamplingClient) -> Calls:
    return {
        "forward_backward": lambda: client.forward_backward(batch(1)),
        "optim_step": lambda: client.optim_step(AdamParams()),
        "get_info": client.get_info,
        "save_weights_and_get_sampling_client": client.save_weights_and_get_sampling_client,
        "sample": lambda: sampler.sample(PROMPT, 1, SHORT),
        "get_sampler_info": sampler.get_sampler_info,
        "get_server_capabilities": service.get_server_capabilities,
        "create_lora_training_client": lambda: service.create_lora_training_client(BASE_MODEL, 2),
        "create_sampling_client": lambda: service.create_sampling_client(base_model=BASE_MODEL),
        "create_service_client": runtime.create_service_client,
    }


_OF_A_CLIENT = ("forward_backward", "optim_step", "get_info", "sample", "get_sampler_info")


def test_a_closed_client_says_so():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        await client.aclose()
        await sampler.aclose()
        uses = _uses(world.runtime, service, client, sampler)
        for name in _OF_A_CLIENT:
            with pytest.raises(ClosedError):
                await uses[name]()

    train(story)


def test_a_closed_session_says_so_and_its_clients_can_still_be_closed():
    async def story(world: World, service: ServiceClient, client: TrainingClient):
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        await service.aclose()
        uses = _uses(world.runtime, service, client, sampler)
        del uses["create_service_client"]
        for use in uses.values():
            with pytest.raises(ClosedError):
                await use()
        for close in (client.aclose, sampler.aclose, service.aclose, client.aclose):
            await close()

    train(story)


def test_everything_of_a_closed_runtime_says_so():
    kept: list[tuple[Runtime, ServiceClient, TrainingClient, SamplingClient]] = []

    async def story(world: World, service: ServiceClient, client: TrainingClient):
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        kept.append((world.runtime, service, client, sampler))

    train(story)

    async def afterwards():
        for use in _uses(*kept[0]).values():
            with pytest.raises(TinkerError):
                await use()

    trio.run(afterwards)


async def test_a_foreign_run_of_trio_is_refused_and_touches_nothing():
    def at_once() -> None:
        async def story(world: World, service: ServiceClient, client: TrainingClient):
            sampler = await service.create_sampling_client(base_model=BASE_MODEL)
            unfinished = await client.optim_step(AdamParams())
            uses = _uses(world.runtime, service, client, sampler)
            uses |= {"await": unfinished.result, "aclose": client.aclose, "cancel": lambda: _soon(unfinished.cancel)}

            async def abroad() -> None:
                for name, use in uses.items():
                    with pytest.raises(WrongPlace, match="another run"):
                        await use()
                    assert name

            await _in_a_thread_of_its_own(lambda: trio.run(abroad))
            with pytest.raises(WrongPlace, match="outside of trio"):
                await _in_a_thread_of_its_own(lambda: client.optim_step_async(AdamParams()))
            assert "optim_step" in await _in_a_thread_of_its_own(lambda: repr(unfinished))
            await unfinished
            assert len(client.accepted) == 1

        train(story)

    await trio.to_thread.run_sync(at_once)


async def _soon(call: Callable[[], Any]) -> Any:
    return call()


async def _in_a_thread_of_its_own(call: Callable[[], Any]) -> Any:
    """The simulation stands still meanwhile."""
    results: list[Any] = []
    failures: list[BaseException] = []

    def work() -> None:
        try:
            results.append(call())
        except BaseException as error:  # raised below, in the test's own thread
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(30)
    if failures:
        raise failures[0]
    return results[0]


@pytest.mark.parametrize("timeout", ["x", True, -1, float("nan")])
def test_a_timeout_that_is_none_is_refused(timeout: Any):
    async def story(_: World, __: ServiceClient, client: TrainingClient):
        future = await client.optim_step(AdamParams())
        with pytest.raises(InvalidInput, match="timeout"):
            await future.result(timeout=timeout)
        await future

    train(story)
