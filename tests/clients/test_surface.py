"""What the clients give back in an undisturbed run: ids, numbers, paths and typed values."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest

from tests.clients.scenario import batch, train
from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.clients.sampling import Sampler
from tinker_actors.clients.training.combine import combine_outputs, reduce_metrics
from tinker_actors.clients.training.data_processor import datum_size, split
from tinker_actors.errors import InvalidInput
from tinker_actors.testing.operations import BASE_MODEL, PROMPT
from tinker_actors.testing.simulation import World
from tinker_actors.tokenizers import tokenizer_for
from tinker_actors.types import (
    AdamParams,
    Datum,
    ForwardBackwardOutput,
    GetInfoResponse,
    GetServerCapabilitiesResponse,
    LoadWeightsResponse,
    ModelInput,
    SamplingParams,
    TinkerPath,
)

PARAMS = SamplingParams(max_tokens=3, seed=5)


def test_a_session_has_the_servers_id():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        other = await world.runtime.create_service_client()
        alive = {session.session_id for session in world.service.sessions.alive()}
        assert {service.session_id, other.session_id} == alive
        assert len(alive) == 2

    train(story)


def test_models_and_samplers_are_numbered_from_zero_for_each_session():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        other = await world.runtime.create_service_client()
        for owner, first in ((service, 1), (other, 0)):
            for number in range(first, first + 2):
                model = await owner.create_lora_training_client(BASE_MODEL, rank=2)
                assert model.model_id == f"{owner.session_id}:train:{number}"
            for number in range(3):
                sampler = await owner.create_sampling_client(base_model=BASE_MODEL)
                assert sampler.sampling_session_id == f"{owner.session_id}:sample:{number}"

    train(story)


def test_capabilities_are_typed():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        found = await service.get_server_capabilities()
        assert await service.get_server_capabilities_async() == found
        assert isinstance(found, GetServerCapabilitiesResponse)
        named = {model.model_name: model for model in found.supported_models}
        assert named[BASE_MODEL].trainable

    train(story)


def test_info_is_typed():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        info = await client.get_info()
        assert isinstance(info, GetInfoResponse)
        assert (info.model_id, info.is_lora) == (client.model_id, True)
        assert info.model_data.model_name == BASE_MODEL

    train(story)


def test_the_models_tokenizer_encodes_and_decodes():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        tokenizer = await client.get_tokenizer()
        tokens = tokenizer.encode("Pig Latin")
        assert tokens == tokenizer_for("tinker-actors/piglatin").encode("Pig Latin")
        assert tokenizer.decode(tokens) == "Pig Latin"
        assert await client.get_tokenizer() is tokenizer

    train(story)


def test_forward_gives_logprobs_and_changes_nothing():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        first = await (await client.forward(batch(1, 2)))
        assert isinstance(first, ForwardBackwardOutput)
        assert all("logprobs" in record for record in first.loss_fn_outputs)
        await (await client.optim_step(AdamParams(learning_rate=1.0)))
        again = await (await client.forward(batch(1, 2)))
        assert first.metrics["loss:sum"] == again.metrics["loss:sum"]

    train(story)


def test_weights_alone_can_be_loaded():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        saved = await (await client.save_state("kept"))
        assert TinkerPath.parse(saved.path, kind="weights").name == "kept"
        before = (await (await client.forward(batch(1)))).metrics["loss:sum"]
        await client.forward_backward(batch(1))
        await client.optim_step(AdamParams(learning_rate=1.0))
        assert isinstance(await (await client.load_state(saved.path)), LoadWeightsResponse)
        assert (await (await client.forward(batch(1)))).metrics["loss:sum"] == before

    train(story)


def test_saved_weights_have_a_path():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        saved = await (await client.save_weights_for_sampler("mine", ttl_seconds=60))
        assert saved.path is not None
        assert TinkerPath.parse(saved.path, kind="sampler_weights").name == "mine"
        sampler = await service.create_sampling_client(model_path=saved.path)
        assert sampler.model_path == saved.path

    train(story)


def test_samples_are_typed_and_prompts_have_logprobs():
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        sampler = await service.create_sampling_client(base_model=BASE_MODEL)
        for _ in range(3):
            response = await sampler.sample(PROMPT, 2, PARAMS)
            assert len(response.sequences) == 2
            for sequence in response.sequences:
                assert sequence.logprobs is not None
                assert len(sequence.tokens) == len(sequence.logprobs)
        logprobs = await sampler.compute_logprobs(ModelInput.from_ints([3, 1, 4]))
        assert logprobs[0] is None
        assert all(value is not None and value < 0 for value in logprobs[1:])

    outcome = train(story)
    assert outcome.counters["samples_done"] == 4


def test_a_sampler_numbers_its_samples_from_zero():
    sampler = Sampler(session="s", seq_id=3, model_path=None, base_model=BASE_MODEL, sampling_session_id="s", key="k")
    assert [sampler.next_seq_id() for _ in range(3)] == [0, 1, 2]


@pytest.mark.parametrize("seconds", [0, -1, 1.5, True])
def test_a_time_to_live_must_be_a_whole_number_above_zero(seconds: int):
    async def story(world: World, service: ServiceClient, client: TrainingClient) -> None:
        for call in (client.save_state, client.save_weights_for_sampler):
            with pytest.raises(InvalidInput, match="ttl_seconds"):
                await call("kept", ttl_seconds=seconds)

    train(story)


def small(count: int, tokens: int = 1) -> list[Datum]:
    ints = list(range(1, tokens + 1))
    return [Datum(ModelInput.from_ints(ints), {"target_tokens": ints, "weights": [1.0] * tokens})] * count


@pytest.mark.parametrize(
    ("count", "tokens", "max_len", "max_bytes", "chunks"),
    [
        (1024, 1, 1024, 5_000_000, [1024]),
        (1025, 1, 1024, 5_000_000, [1024, 1]),
        (9, 100, 1024, 8 * 1600, [8, 1]),
        (3, 100, 1024, 1, [1, 1, 1]),
    ],
)
def test_data_is_cut_by_count_and_by_size(count: int, tokens: int, max_len: int, max_bytes: int, chunks: list[int]):
    data = small(count, tokens)
    assert datum_size(data[0]) == 16 * tokens
    cut = split(data, max_len=max_len, max_bytes=max_bytes)
    assert [len(chunk) for chunk in cut] == chunks
    assert [datum for chunk in cut for datum in chunk] == data


def test_empty_data_is_refused():
    with pytest.raises(InvalidInput, match="data"):
        split([], max_len=1024, max_bytes=5_000_000)


def test_metrics_reduce_as_their_names_say():
    chunks = [
        {f"m:{name}": value for name in ("mean", "sum", "min", "max", "slack", "unique")} for value in (1.0, 3.0, 5.0)
    ]
    reduced, unreduced = reduce_metrics(chunks, [1.0, 3.0, 2.0])
    assert unreduced == ()
    assert reduced["m:mean"] == pytest.approx(20 / 6)
    assert (reduced["m:sum"], reduced["m:min"], reduced["m:max"]) == (9.0, 1.0, 5.0)
    assert reduced["m:slack"] == pytest.approx(5.0 - 20 / 6)
    assert [reduced[key] for key in ("m:unique", "m:unique_1", "m:unique_2")] == [1.0, 3.0, 5.0]


def test_metrics_of_the_first_chunk_count_and_order_does_not():
    assert reduce_metrics([{"a:sum": 1.0}, {"a:sum": 2.0, "b:sum": 3.0}], [1.0, 1.0])[0] == {"a:sum": 3.0}
    assert reduce_metrics([{"a:sum": 1.0, "b:sum": 3.0}, {"a:sum": 2.0}], [1.0, 1.0]) == ({"a:sum": 3.0}, ())
    hashes = [{"h:hash2": 3.0}, {"h:hash2": 5.0}]
    assert reduce_metrics(hashes, [1, 1]) == reduce_metrics(hashes[::-1], [1, 1]) != reduce_metrics(hashes[:1], [1])
    assert math.isnan(reduce_metrics([{"a:mean": 1.0}], [0.0])[0]["a:mean"])


def test_metrics_that_cannot_be_reduced_are_kept_and_flagged():
    def output(rate: float, loss: float) -> ForwardBackwardOutput:
        metrics = {"loss:sum": loss, "policy_lr:last": rate, "bare": rate}
        return ForwardBackwardOutput(loss_fn_output_type="T", loss_fn_outputs=({},), metrics=metrics)

    combined = combine_outputs([output(0.1, 2.0), output(0.2, 3.0)])
    assert combined.metrics == {"loss:sum": 5.0, "policy_lr:last": 0.1, "bare": 0.1}
    assert combined.unreduced == ("policy_lr:last", "bare")
    assert combine_outputs([output(0.1, 2.0)]).unreduced == ()  # of one chunk, the value is the batch's


def test_types_keep_their_promises():
    assert ModelInput.from_ints([1, 2, 3]).length == 3
    assert list(ModelInput.from_ints([1, 2, 3]).to_ints()) == [1, 2, 3]
    adam = AdamParams()
    assert (adam.learning_rate, adam.beta1, adam.beta2, adam.eps) == (1e-4, 0.9, 0.95, 1e-12)
    assert (adam.weight_decay, adam.grad_clip_norm) == (0.0, 0.0)
    for values in ({"learning_rate": -1.0}, {"beta1": 1.5}, {"eps": math.nan}):
        with pytest.raises(InvalidInput):
            msgspec.structs.replace(adam, **values)
    datum = small(1, 2)[0]
    assert {key: tensor.dtype for key, tensor in datum.tensors().items()} == {
        "target_tokens": "int64",
        "weights": "float32",
    }
    with pytest.raises(InvalidInput):
        Datum(ModelInput.from_ints([1]), {"unheard_of": [1.0]})
    custom = Datum(ModelInput.from_ints([1]), {"own": np.asarray([1.0], np.float32)})
    assert custom.tensors()["own"].shape == (1,)
