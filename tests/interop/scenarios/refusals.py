"""What every server has to refuse, and its refusal has to reach the caller as a typed error."""

from __future__ import annotations

import pytest

from tests.interop.operation import Call, Tools, batch, operation, refused
from tinker_actors import Datum, ModelInput, RequestFailedError, SamplingParams, TinkerError


@operation("refused: an unknown base model")
async def unknown_base_model(tools: Tools, call: Call) -> None:
    with refused(400, 404, 422):
        await (await tools.service()).create_lora_training_client("nobody/has-this", rank=4)


@operation("refused: a rank beyond any limit")
async def rank(tools: Tools, call: Call) -> None:
    with refused(400, 422):
        await (await tools.service()).create_lora_training_client(tools.model, rank=1_000_000)


@operation("refused: a token beyond the vocabulary")
async def token(tools: Tools, call: Call) -> None:
    client = await tools.training()
    inputs = {"target_tokens": [1], "weights": [1.0]}
    datum = Datum(model_input=ModelInput.from_ints([2_000_000_000]), loss_fn_inputs=inputs)
    with pytest.raises(TinkerError):
        await (await client.forward([datum]))


@operation("refused: an unknown loss")
async def loss(tools: Tools, call: Call) -> None:
    client = await tools.training()
    with pytest.raises(TinkerError):
        await (await client.forward_backward(batch(), "no_such_loss"))


@operation("refused: a checkpoint that was never saved")
async def checkpoint(tools: Tools, call: Call) -> None:
    service = await tools.service()
    client = await tools.training(service)
    with pytest.raises(TinkerError):
        await (await client.load_state(f"tinker://{client.model_id}/weights/never"))
    with pytest.raises((TinkerError, RequestFailedError)):
        missing = f"tinker://{client.model_id}/sampler_weights/never"
        sampler = await service.create_sampling_client(model_path=missing)
        await sampler.sample(ModelInput.from_ints([5]), 1, SamplingParams(max_tokens=1))


@operation("refused: a run that never was")
async def run(tools: Tools, call: Call) -> None:
    with refused(400, 403, 404):
        await (await tools.rest()).get_training_run("nobody:train:0")
