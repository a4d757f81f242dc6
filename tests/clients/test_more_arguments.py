"""Arguments that newer servers know: they are sent, honoured or refused in words, and live on in a rebuilt model."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.clients.odd_server import ask
from tests.clients.scenario import batch, train
from tests.clients.test_epochs import lose_nothing, lose_session, rebuilt, steps
from tests.clients.test_odd_servers import hub
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import Config, RecoveryPolicy
from tinker_actors.errors import APIResponseError, BadRequestError, InvalidInput, TinkerError
from tinker_actors.local import ServerSettings
from tinker_actors.ports import InlineOffload
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import World
from tinker_actors.types import (
    AdamParams,
    DimuonConfig,
    DimuonParams,
    LoadWeightsRequest,
    ModelInput,
    OtherOptimizer,
    SamplingParams,
    TensorData,
)

SHORT = SamplingParams(max_tokens=3, seed=1)
TOKEN = "tml-" + "somebody-else"
TWO_OWNERS = ServerSettings(base_model=BASE_MODEL, owners={"here": ("tml-test",), "there": (TOKEN,)})


def bodies(asked: list[tuple[str, bytes]], name: str) -> list[Any]:
    return [msgspec.json.decode(body) for path, body in asked if path == name]


def test_a_name_that_is_taken_is_overwritten_on_demand():
    async def story(world: World, _: ServiceClient, client: TrainingClient) -> None:
        first = (await (await client.save_state("kept", user_metadata={"step": "1"}))).path
        await steps(client, 1)
        with pytest.raises(TinkerError, match="kept"):
            await (await client.save_state("kept"))
        again = await (await client.save_state("kept", overwrite=True, user_metadata={"step": "2"}))
        assert again.path == first
        sampler = (await (await client.save_weights_for_sampler("shown", user_metadata={"for": "us"}))).path
        rest = await world.runtime.create_rest_client()
        listed = (await rest.list_checkpoints(client.model_id)).checkpoints
        assert {each.tinker_path: each.user_metadata for each in listed} == {
            first: {"step": "2"},
            sampler: {"for": "us"},
        }

    train(story)


@pytest.mark.parametrize("optimizer", [False, True])
def test_a_state_of_somebody_elses_is_loaded_with_their_token_and_again_in_a_rebuilt_model(optimizer: bool):
    def story(lose: Any) -> Any:
        async def told(world: World, _: ServiceClient, client: TrainingClient) -> None:
            config = Config.load(base_url="https://server", api_key=TOKEN, environ={})
            async with open_runtime(
                config=config, transport=world.network.transport(), seed=2, offload=InlineOffload()
            ) as theirs:
                other = await (await theirs.create_service_client()).create_lora_training_client(BASE_MODEL, 2, 7)
                await steps(other, 1)
                path = (await (await other.save_state("theirs"))).path
            load = client.load_state_with_optimizer if optimizer else client.load_state
            await steps(client, 1, 2)
            with pytest.raises(TinkerError, match="theirs"):
                await (await load(path))
            future = await load(path, TOKEN)
            assert TOKEN not in repr(future) + "".join(map(str, world.runtime.pending()))
            await future
            await steps(client, 3)
            await lose(world, client)
            await steps(client, 4)

        return told

    def run(lose: Any) -> Any:
        return train(story(lose), settings=TWO_OWNERS, recovery=RecoveryPolicy())

    calm, broken = run(lose_nothing), run(lose_session)
    assert calm.models[0].digest == broken.models[0].digest
    assert rebuilt(broken)[0].replays == 2, "from their state, and not from the creation"


def test_a_token_shows_nowhere():
    request = LoadWeightsRequest(path="tinker://r/weights/a", optimizer=True, weights_access_token=TOKEN)
    assert TOKEN not in repr(request)
    assert "tinker://r/weights/a" in repr(request)


def test_other_optimizers_are_sent_as_their_servers_know_them():
    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        client = await service.create_lora_training_client("a/b", 2, optimizer=DimuonConfig())
        await (await client.optim_step(DimuonParams(learning_rate=0.5)))
        await (await client.optim_step(OtherOptimizer(type="lion", fields={"rate": 0.1})))
        await (await client.optim_step(adam_params=AdamParams(learning_rate=0.25)))
        for wrong in ((), ({"learning_rate": 1.0},)):
            with pytest.raises(InvalidInput, match="optim_params"):
                await client.optim_step(*wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="given besides"):
            await client.optim_step(AdamParams(), adam_params=AdamParams())
        with pytest.raises(InvalidInput, match="optimizer"):
            await service.create_lora_training_client("a/b", 2, optimizer="adamw")  # type: ignore[arg-type]

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    (created,) = bodies(asked, "create_model")
    assert created["optimizer_config"] == {"type": "dimuon", "version": 1}
    first, second, third = bodies(asked, "optim_step")
    assert first["optimizer_params"] == {"type": "dimuon", "learning_rate": 0.5, "grad_clip_norm": 0.0, "beta1": 0.9}
    assert second["optimizer_params"] == {"type": "lion", "rate": 0.1}
    assert (third["adam_params"]["learning_rate"], "optimizer_params" in third) == (0.25, False)


def test_a_server_that_has_no_such_optimizer_says_so():
    async def story(_: World, service: ServiceClient, client: TrainingClient) -> None:
        with pytest.raises(BadRequestError, match="dimuon"):
            await service.create_lora_training_client(BASE_MODEL, 2, optimizer=DimuonConfig())
        path = (await (await client.save_state("kept"))).path
        with pytest.raises(BadRequestError, match="dimuon"):
            await service.create_training_client_from_state(path, optimizer=DimuonConfig())

    train(story)


def test_all_that_can_be_asked_of_a_prompt_comes():
    prompt = ModelInput.from_ints([1, 2, 3, 4])
    targets = TensorData([[2, 5], [3, -1], [4, 6]], "int64", [3, 2])

    async def story(_: World, service: ServiceClient, __: TrainingClient) -> None:
        sampler = await service.create_sampling_client(None, BASE_MODEL)
        all_ = await sampler.compute_logprobs(prompt)
        found = await sampler.sample(prompt, 1, SHORT, True, 2, 3, targets, 2, 2)
        assert found.prompt_logprobs == (None, None, *all_[2:])
        assert found.target_prompt_logprobs is not None
        assert found.target_prompt_logprobs.dims == (3, 2)
        assert found.prompt_alt_tokens is not None
        assert found.prompt_alt_tokens.tokens.dims == (3, 2)
        (sequence,) = found.sequences
        assert sequence.topk_logprobs is not None
        assert [len(row or ()) for row in sequence.topk_logprobs] == [3] * len(sequence.tokens)
        assert await sampler.compute_logprobs(prompt, 1) == (None, None, None, all_[3])

    train(story)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "targets that are none": ({"target_prompt_logprobs": [[1]]}, r"is of type list. .*\[1, K\]"),
    "targets of another shape": (
        {"target_prompt_logprobs": TensorData([[1], [2]], "int64", [2, 1])},
        r"has shape \[2, 1\]",
    ),
    "targets that are no tokens": ({"target_prompt_logprobs": TensorData([[1.0]], "float32", [1, 1])}, "float32"),
    "the last 0": ({"include_prompt_logprobs": True, "prompt_logprobs_last_n": 0}, "prompt_logprobs_last_n"),
    "the last of none": ({"prompt_logprobs_last_n": 1}, "without include_prompt_logprobs"),
    "less than none": ({"topk_sample_logprobs": -1}, "topk_sample_logprobs"),
    "a fraction of others": ({"prompt_alt_tokens_k": 1.5}, "prompt_alt_tokens_k"),
}


@pytest.mark.parametrize(("given", "said"), BAD.values(), ids=BAD.keys())
def test_what_can_not_be_asked_is_refused_at_the_call(given: dict[str, Any], said: str):
    async def story(runtime: Runtime) -> None:
        sampler = await (await runtime.create_service_client()).create_sampling_client(base_model="a/b")
        with pytest.raises(InvalidInput, match=said):
            await sampler.sample(PROMPT[:2] if isinstance(PROMPT, list) else ModelInput.from_ints([1, 2]), 1, **given)

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    assert not bodies(asked, "asample")


@pytest.mark.parametrize(
    ("given", "result", "said"),
    [
        ({"prompt_alt_tokens_k": 1}, {}, "no prompt_alt_tokens"),
        ({"target_prompt_logprobs": TensorData([[1]], "int64", [1, 1])}, {}, "no target_prompt_logprobs"),
        (
            {"include_prompt_logprobs": True, "prompt_logprobs_last_n": 1},
            {"prompt_logprobs": [-1.0, -2.0]},
            "before the last 1",
        ),
    ],
)
def test_a_server_that_does_not_know_what_is_asked_is_an_error(given: Any, result: dict[str, Any], said: str):
    async def story(runtime: Runtime) -> None:
        sampler = await (await runtime.create_service_client()).create_sampling_client(base_model="a/b")
        with pytest.raises(APIResponseError, match=said):
            await sampler.sample(ModelInput.from_ints([1, 2]), 1, SHORT, **given)

    sequences = [{"stop_reason": "length", "tokens": [1], "logprobs": [0.0]}]
    ask(story, {"result of asample": {"sequences": sequences, **result}})


def test_stability_is_recorded_by_all_samples_of_a_client_that_asks_for_it():
    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        client = await service.create_lora_training_client("a/b", 2)
        for sampler in (
            await service.create_sampling_client(base_model="a/b", record_stability_info=True),
            await client.create_sampling_client("tinker://r/sampler_weights/mine", record_stability_info=True),
            await client.save_weights_and_get_sampling_client("mine", record_stability_info=True),
            await service.create_sampling_client(base_model="a/b"),
        ):
            await sampler.sample(ModelInput.from_ints([1, 2]), 1, SHORT)
        with pytest.raises(InvalidInput, match="record_stability_info"):
            await service.create_sampling_client(base_model="a/b", record_stability_info=1)  # type: ignore[arg-type]

    asked: list[tuple[str, bytes]] = []
    ask(story, {}, asked=asked)
    recorded = [body.get("record_stability_info", False) for body in bodies(asked, "asample")]
    assert recorded == [True, True, True, False]


def test_weights_in_flight_move_on():
    async def story(_: World, __: ServiceClient, client: TrainingClient) -> tuple[bool, bool]:
        first = await client.save_weights_and_get_sampling_client(kind="inflight")
        snapshot = await client.save_weights_and_get_sampling_client()
        before = [await each.compute_logprobs(PROMPT) for each in (first, snapshot)]
        await steps(client, 1, 2)
        await client.save_weights_and_get_sampling_client(kind="inflight")
        after = [await each.compute_logprobs(PROMPT) for each in (first, snapshot)]
        with pytest.raises(InvalidInput, match="have no name"):
            await client.save_weights_and_get_sampling_client("name", kind="inflight")
        with pytest.raises(InvalidInput, match="kind"):
            await client.save_weights_and_get_sampling_client(kind="moving")  # type: ignore[arg-type]
        return before[0] == after[0], before[1] == after[1]

    assert train(story).value == (False, True)


def test_the_base_model_of_weights_by_path_is_asked_for_once(monkeypatch: pytest.MonkeyPatch):
    asked_of_the_hub = hub(monkeypatch)

    async def story(runtime: Runtime) -> None:
        service = await runtime.create_service_client()
        sampler = await service.create_sampling_client(model_path="tinker://r/sampler_weights/mine")
        tokenizer = await sampler.get_tokenizer()
        assert await sampler.get_tokenizer() is tokenizer
        assert await sampler.get_base_model() == "a/b"

    described = {"sampler_id": "sampler", "base_model": "a/b", "model_path": "tinker://r/sampler_weights/mine"}
    asked: list[tuple[str, bytes]] = []
    ask(story, {"samplers/sampler": described}, asked=asked)
    assert asked_of_the_hub == ["a/b"]
    assert [name for name, _ in asked].count("samplers/sampler") == 1


def test_the_local_server_tells_the_base_model_of_weights_by_path():
    async def story(_: World, service: ServiceClient, client: TrainingClient) -> None:
        path = (await (await client.save_weights_for_sampler("mine"))).path
        assert path is not None
        sampler = await service.create_sampling_client(path)
        assert await sampler.get_base_model() == BASE_MODEL
        assert (await sampler.get_tokenizer()).encode("a") == (await client.get_tokenizer()).encode("a")

    train(story)


def test_a_loss_always_gets_log_probabilities():
    async def story(_: World, __: ServiceClient, client: TrainingClient) -> None:
        def loss(data: Any, rows: Any) -> Any:
            return 1.0, [row * 0 for row in rows]

        await (
            await client.forward_backward_custom(batch(1), loss, loss_type_input="logprobs", differentiation="own")
        )
        with pytest.raises(InvalidInput, match="loss_type_input"):
            await client.forward_backward_custom(batch(1), loss, loss_type_input="logits")  # type: ignore[arg-type]

    train(story)
