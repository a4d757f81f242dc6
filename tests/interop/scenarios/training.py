"""ServiceClient and TrainingClient."""

from __future__ import annotations

import math
from typing import Any

import pytest
import trio

from tests.interop.operation import RATE, TOKENS, Call, Tools, batch, operation
from tinker_actors import (
    AdamParams,
    ClosedError,
    ForwardBackwardOutput,
    InvalidInput,
    ModelInput,
    SamplingClient,
    SamplingParams,
)

PROMPT = ModelInput.from_ints(TOKENS)


@operation("Runtime.create_service_client")
async def create_service_client(tools: Tools, call: Call) -> None:
    service = await call(tools.runtime, user_metadata={"of": "interop"}, tags=("interop",))
    assert service.session_id
    assert service.state == "active"


@operation("Runtime.create_rest_client", "ServiceClient.create_rest_client")
async def create_rest_client(tools: Tools, call: Call) -> None:
    owner = tools.runtime if call.owner == "Runtime" else await tools.service()
    rest = await call(owner)
    assert (await rest.get_server_capabilities()).supported_models


@operation("ServiceClient.get_server_capabilities")
async def get_server_capabilities(tools: Tools, call: Call) -> None:
    offered = await call(await tools.service())
    assert tools.model in [model.model_name for model in offered.supported_models]


@operation("ServiceClient.create_lora_training_client")
async def create_lora_training_client(tools: Tools, call: Call) -> None:
    service = await tools.service()
    client = await call(service, tools.model, rank=4, seed=1, train_unembed=False, user_metadata={"of": "interop"})
    assert client.model_id
    losses = [await tools.step(client) for _ in range(4)]
    assert all(map(math.isfinite, losses))
    assert losses[-1] < losses[0]


@operation("ServiceClient.create_sampling_client")
async def create_sampling_client(tools: Tools, call: Call) -> None:
    service = await tools.service()
    base = await call(service, base_model=tools.model)
    client = await tools.trained(service)
    path = (await (await client.save_weights_for_sampler(tools.name()))).path
    named = await call(service, model_path=path)
    first, second = await base.compute_logprobs(PROMPT), await named.compute_logprobs(PROMPT)
    assert len(first) == len(second) == len(TOKENS)
    assert first != second


@operation("ServiceClient.aclose", "ServiceClient.close")
async def close_service(tools: Tools, call: Call) -> None:
    service = await tools.service()
    await call(service, *(("success",) if call.method == "close" else ()))
    assert service.state == "finished"


@operation("ServiceClient.get_telemetry", "TrainingClient.get_telemetry", "SamplingClient.get_telemetry")
async def get_telemetry(tools: Tools, call: Call) -> None:
    service = await tools.service()
    owner = service
    if call.owner == "TrainingClient":
        owner = await tools.training(service)
    elif call.owner == "SamplingClient":
        owner = await service.create_sampling_client(base_model=tools.model)
    assert await call(owner) is service.get_telemetry()


def _is_output(output: ForwardBackwardOutput, count: int) -> None:
    assert len(output.loss_fn_outputs) == count
    logprobs = [record["logprobs"].tolist() for record in output.loss_fn_outputs]
    assert all(len(row) == len(TOKENS) - 1 for row in logprobs)
    assert output.metrics["loss:sum"] == pytest.approx(-sum(map(sum, logprobs)), rel=0.02)


@operation("TrainingClient.forward")
async def forward(tools: Tools, call: Call) -> None:
    client = await tools.training()
    _is_output(await call(client, batch(3)), 3)


@operation("TrainingClient.forward_backward")
async def forward_backward(tools: Tools, call: Call) -> None:
    client = await tools.training()
    _is_output(await call(client, batch(3), "cross_entropy"), 3)
    before = sum(await tools.logprobs(client))
    await (await client.optim_step(AdamParams(learning_rate=RATE)))
    assert sum(await tools.logprobs(client)) > before


@operation("TrainingClient.optim_step")
async def optim_step(tools: Tools, call: Call) -> None:
    client = await tools.training()
    before = sum(await tools.logprobs(client))
    await (await client.forward_backward(batch()))
    await call(client, AdamParams(learning_rate=RATE, beta1=0.9, beta2=0.95, eps=1e-8))
    assert sum(await tools.logprobs(client)) > before


@operation("TrainingClient.save_state")
async def save_state(tools: Tools, call: Call) -> None:
    client, name = await tools.training(), tools.name()
    saved = await call(client, name, ttl_seconds=7200)
    assert saved.path.startswith("tinker://")
    assert saved.path.endswith(f"/{name}")


@operation("TrainingClient.load_state", "TrainingClient.load_state_with_optimizer")
async def load_state(tools: Tools, call: Call) -> None:
    """Into a new model, as its first operation: not all servers take it later."""
    service = await tools.service()
    trained = await tools.trained(service)
    path = await tools.saved(trained)
    other = await tools.training(service)
    await call(other, path)
    assert await tools.logprobs(other) == pytest.approx(await tools.logprobs(trained), abs=0.02)


@operation("TrainingClient.save_weights_for_sampler")
async def save_weights_for_sampler(tools: Tools, call: Call) -> None:
    client, name = await tools.training(), tools.name()
    saved = await call(client, name, ttl_seconds=7200)
    assert saved.path.endswith(f"/{name}")


@operation("TrainingClient.save_weights_and_get_sampling_client")
async def save_weights_and_get_sampling_client(tools: Tools, call: Call) -> None:
    client = await tools.trained()
    for name in (None, tools.name()):
        sampler = await call(client, name)
        first, *rest = await sampler.compute_logprobs(PROMPT)
        assert first is None
        assert rest == pytest.approx(await tools.logprobs(client), abs=0.05)


@operation("TrainingClient.get_info")
async def get_info(tools: Tools, call: Call) -> None:
    client = await tools.training()
    info = await call(client)
    assert info.model_id == client.model_id
    assert info.model_data.model_name == tools.model


@operation("TrainingClient.get_tokenizer", "SamplingClient.get_tokenizer")
async def get_tokenizer(tools: Tools, call: Call) -> None:
    service = await tools.service()
    if call.owner == "TrainingClient":
        tokenizer = await call(await tools.training(service))
    else:
        tokenizer = await call(await service.create_sampling_client(base_model=tools.model))
    assert tokenizer.decode(tokenizer.encode("the quick banana")).strip() == "the quick banana"


@operation("TrainingClient.on_queue_state_change", "SamplingClient.on_queue_state_change")
async def on_queue_state_change(tools: Tools, call: Call) -> None:
    """Whether a queue forms is the server's affair; the observer does not stand in the way."""
    service = await tools.service()
    owner = await tools.training(service)
    if call.owner == "SamplingClient":
        owner = await service.create_sampling_client(base_model=tools.model)
    with await call(owner, lambda change: None):
        if call.owner == "SamplingClient":
            await owner.compute_logprobs(PROMPT)
        else:
            await tools.step(owner)


@operation("TrainingClient.aclose")
async def close_training(tools: Tools, call: Call) -> None:
    service = await tools.service()
    client = await tools.training(service)
    await call(client)
    assert await tools.step(await tools.training(service)) > 0.0


@operation("many operations of one model at once take effect in order")
async def pipelined(tools: Tools, call: Call) -> None:
    client = await tools.training()
    futures = []
    for _ in range(6):
        futures.append(await client.forward_backward(batch(2)))
        futures.append(await client.optim_step(AdamParams(learning_rate=RATE)))
    losses = [output.metrics["loss:sum"] for output in [await future for future in futures][::2]]
    assert losses == sorted(losses, reverse=True)


@operation("two models of one session are trained at once")
async def side_by_side(tools: Tools, call: Call) -> None:
    service = await tools.service()
    losses: list[float] = []

    async def train() -> None:
        losses.append(await tools.step(await tools.training(service)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(train)
        nursery.start_soon(train)
    assert losses[0] == pytest.approx(losses[1], rel=0.02)


@operation(
    "ServiceClient.create_training_client_from_state",
    "ServiceClient.create_training_client_from_state_with_optimizer",
)
async def from_state(tools: Tools, call: Call) -> None:
    service = await tools.service()
    trained = await tools.trained(service)
    made = await call(service, await tools.saved(trained), user_metadata={"of": "interop"})
    assert made.model_id != trained.model_id
    assert await tools.logprobs(made) == pytest.approx(await tools.logprobs(trained), abs=0.02)
    assert await tools.step(made) > 0.0


@operation("ServiceClient.copy_weights")
async def copy_weights(tools: Tools, call: Call) -> None:
    service = await tools.service()
    path = await tools.saved(await tools.training(service))
    copied = await call(service, path)
    assert copied != path
    assert copied.startswith("tinker://")


@operation("TrainingClient.create_sampling_client")
async def create_sampling_client_of_model(tools: Tools, call: Call) -> None:
    client = await tools.trained()
    path = (await (await client.save_weights_for_sampler(tools.name()))).path
    sampler = await call(client, path)
    assert sampler.model_path == path
    assert (await sampler.compute_logprobs(PROMPT))[1:] == pytest.approx(await tools.logprobs(client), abs=0.05)


@operation("TrainingClient.forward_backward_custom")
async def forward_backward_custom(tools: Tools, call: Call) -> None:
    """The loss is the sum of squares; its gradient makes it smaller."""

    def squares(data: Any, logprobs: Any) -> Any:
        return sum(float((each**2).sum()) for each in logprobs), [2 * each for each in logprobs]

    client = await tools.training()
    before = sum(value**2 for value in await tools.logprobs(client))
    output = await call(client, batch(2), squares, differentiation="own")
    assert output.metrics["loss:sum"] == pytest.approx(2 * before, rel=0.02)
    await (await client.optim_step(AdamParams(learning_rate=RATE)))
    assert sum(value**2 for value in await tools.logprobs(client)) < before


@operation("TrainingClient.save_weights_external")
async def save_weights_external(tools: Tools, call: Call) -> None:
    client, name = await tools.training(), tools.name()
    saved = await call(client, name, ttl_seconds=7200)
    assert saved.path.endswith(f"/external_weights/{name}")


@operation("TrainingClient.restore", "TrainingClient.assume_applied", "TrainingClient.abandon")
async def decisions(tools: Tools, call: Call) -> None:
    client = await tools.trained()
    with pytest.raises(InvalidInput, match="there is nothing to decide"):
        await call(client)
    assert await tools.step(client) > 0


@operation("TrainingClient.unload_model")
async def unload_model(tools: Tools, call: Call) -> None:
    client = await tools.trained()
    assert (await call(client)).model_id == client.model_id
    with pytest.raises(ClosedError):
        await client.forward(batch())


@operation("SamplingClient.create_async")
async def create_sampling_client_at_once(tools: Tools, call: Call) -> None:
    sampler = await call(SamplingClient, await tools.service(), base_model=tools.model)
    assert len(await sampler.compute_logprobs(PROMPT)) == len(TOKENS)


@operation("SamplingClient.sample")
async def sample(tools: Tools, call: Call) -> None:
    sampler = await tools.sampler(await tools.trained())
    prompt = ModelInput.from_ints(TOKENS[:4])
    params = SamplingParams(max_tokens=5, temperature=1.0, top_k=20, top_p=0.95, seed=3, stop=[])
    response = await call(sampler, prompt, 2, params, include_prompt_logprobs=True)
    assert len(response.sequences) == 2
    for sequence in response.sequences:
        assert 1 <= len(sequence.tokens) <= 5
        assert sequence.stop_reason in ("length", "stop")
        assert sequence.logprobs is None or len(sequence.logprobs) == len(sequence.tokens)
    assert response.prompt_logprobs is not None
    assert len(response.prompt_logprobs) == 4


@operation("SamplingClient.compute_logprobs")
async def compute_logprobs(tools: Tools, call: Call) -> None:
    client = await tools.trained()
    first, *rest = await call(await tools.sampler(client), PROMPT)
    assert first is None
    assert rest == pytest.approx(await tools.logprobs(client), abs=0.05)


@operation("SamplingClient.get_sampler_info")
async def get_sampler_info(tools: Tools, call: Call) -> None:
    service = await tools.service()
    sampler = await service.create_sampling_client(base_model=tools.model)
    info = await call(sampler)
    assert info.base_model == tools.model
    assert info.sampling_session_id == sampler.sampling_session_id


@operation("SamplingClient.aclose")
async def close_sampling(tools: Tools, call: Call) -> None:
    service = await tools.service()
    await call(await service.create_sampling_client(base_model=tools.model))
    assert service.state == "active"


@operation("SamplingClient.get_sampler_handle", "Runtime.create_sampling_client_from_handle")
async def sampler_handle(tools: Tools, call: Call) -> None:
    sampler = await tools.sampler(await tools.trained())
    if call.owner == "Runtime":
        other = await call(tools.runtime, sampler.get_sampler_handle())
    else:
        other = await tools.runtime.create_sampling_client_from_handle(await call(sampler))
    assert await other.compute_logprobs(PROMPT) == pytest.approx(await sampler.compute_logprobs(PROMPT), abs=0.05)
