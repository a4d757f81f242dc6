"""What ServiceClient offers."""

from __future__ import annotations

from typing import Any

import tinker
from tinker import types

from tests.conformance.programs.scenario import TOKENS, Call, World, logprobs, scenario

PROJECT = "project-of-the-test"
GREEDY = types.SamplingParams(max_tokens=4, temperature=0.0, stop=[])


def described(client: Any) -> dict[str, Any]:
    """What the server knows of a model."""
    info = client.get_info()
    return {
        "client": type(client).__name__,
        "model_id": info.model_id,
        "base": info.model_data.model_name,
        "rank": info.lora_rank,
        "is_lora": info.is_lora,
    }


@scenario("ServiceClient.create_lora_training_client")
def create_lora_training_client(world: World, call: Call) -> Any:
    made = call(
        world.service,
        base_model=world.model,
        rank=4,
        seed=1,
        train_mlp=True,
        train_attn=False,
        train_unembed=False,
        user_metadata={"of": "conformance"},
    )
    run = world.rest.get_training_run(made.model_id).result()
    return {
        "session": world.session_id,
        "metadata": run.user_metadata,
        "logprobs": logprobs(made),
        **described(made),
    }


def _from_state(world: World, call: Call, *, optimizer: bool) -> Any:
    trained = world.trained()
    path = trained.save_state(world.name("state")).result().path
    made = call(world.service, path, user_metadata={"of": "conformance"})
    seen = {"saved": logprobs(trained), "loaded": logprobs(made), "another": made.model_id != trained.model_id}
    world.step(trained)
    world.step(made)
    run = world.rest.get_training_run(made.model_id).result()
    return {
        **seen,
        **described(made),
        "metadata": run.user_metadata,
        "original_after": logprobs(trained),
        "made_after": logprobs(made),
        "optimizer": optimizer,
    }


@scenario("ServiceClient.create_training_client_from_state")
def create_training_client_from_state(world: World, call: Call) -> Any:
    return _from_state(world, call, optimizer=False)


@scenario("ServiceClient.create_training_client_from_state_with_optimizer")
def create_training_client_from_state_with_optimizer(world: World, call: Call) -> Any:
    return _from_state(world, call, optimizer=True)


@scenario("ServiceClient.create_sampling_client")
def create_sampling_client(world: World, call: Call) -> Any:
    prompt = types.ModelInput.from_ints([5, 9, 13, 17])
    named = call(world.service, model_path=world.kept_sampler)
    base = call(world.service, base_model=world.model)
    return {
        "clients": [type(named).__name__, type(base).__name__],
        "named": named.compute_logprobs(prompt).result(),
        "base": base.compute_logprobs(prompt).result(),
        "trained": world.sampler.compute_logprobs(prompt).result(),
        "models": [named.get_base_model(), base.get_base_model()],
    }


@scenario("ServiceClient.create_rest_client")
def create_rest_client(world: World, call: Call) -> Any:
    made = call(world.service)
    return {"client": type(made).__name__, "runs": len(made.list_training_runs(limit=1).result().training_runs)}


@scenario("ServiceClient.get_server_capabilities")
def get_server_capabilities(world: World, call: Call) -> Any:
    return [offered.model_dump() for offered in call(world.service).supported_models]


@scenario("ServiceClient.holder")
def holder(world: World, _call: Call) -> Any:
    return {
        "session": world.service.holder.get_session_id(),
        "known": world.rest.get_session(world.session_id).result().training_run_ids,
    }


def telemetry(world: World, call: Call, owner: Any) -> Any:
    """What is reported through ``owner``, and whether the server takes it."""
    found = call(owner)
    logged = found.log("conformance")
    found._trigger_flush()
    return {"kind": type(found).__name__, "logged": logged, "sent": found._wait_until_drained_sync()}


@scenario("ServiceClient.get_telemetry")
def get_telemetry(world: World, call: Call) -> Any:
    return telemetry(world, call, world.service) if world.session_id else None


@scenario("ServiceClient.get_console_url")
def get_console_url(world: World, call: Call) -> Any:
    return {"url": call(world.service), "session": world.session_id}


@scenario("ServiceClient.close")
def close(world: World, call: Call) -> Any:
    service = world.open_service(user_metadata={"purpose": "closing"})
    handle = service.create_sampling_client(base_model=world.model).result().get_sampler_handle()
    session = service.holder.get_session_id()
    another = tinker.SamplingClient.from_sampler_handle(handle, api_key=world.key)
    prompt = types.ModelInput.from_ints(TOKENS)
    before = len(another.compute_logprobs(prompt).result())
    call(service, "errored", "because of the test")
    found = world.rest.search_sessions(types.SessionSearchRequest(session_id=session)).result()
    try:
        another.compute_logprobs(prompt).result()
        after = None
    except tinker.APIStatusError as error:
        after = [error.status_code, str(error)]
    return {"statuses": [summary.status.model_dump() for summary in found.sessions], "before": before, "after": after}


@scenario("ServiceClient.copy_weights")
def copy_weights(world: World, call: Call) -> Any:
    service = world.open_service(project_id=PROJECT)
    copied = call(service, world.kept)
    made = service.create_training_client_from_state(copied).result()
    return {"source": world.kept, "copy": copied, "copied": logprobs(made), "original": logprobs(world.run)}


@scenario("ServiceClient.create_custom_loss")
def create_custom_loss(world: World, call: Call) -> Any:
    def loss(logprobs: Any, weights: Any) -> Any:
        total = -(logprobs * weights).sum()
        return total, {"custom/loss:sum": total}

    return type(call(world.service, loss, {"logprobs": 1, "weights": 1})).__name__
