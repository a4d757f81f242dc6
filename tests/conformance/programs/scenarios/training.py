"""What TrainingClient offers."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from tinker import types

from tests.conformance.programs.autograd import Loss, Tensor, with_autograd
from tests.conformance.programs.scenario import RATE, TOKENS, Call, World, batch, logprobs, scenario
from tests.conformance.programs.scenarios.service import GREEDY, described, telemetry

PROMPT = TOKENS[:3]


def _output(found: Any) -> dict[str, Any]:
    return {
        "loss": found.metrics["loss:sum"],
        "tokens": found.metrics["tokens:sum"],
        "logprobs": [record["logprobs"].tolist() for record in found.loss_fn_outputs],
    }


@scenario("TrainingClient.forward")
def forward(world: World, call: Call) -> Any:
    client = world.trained()
    found = _output(call(client, batch(3), "cross_entropy"))
    client.optim_step(types.AdamParams(learning_rate=RATE)).result()  # there is no gradient to apply
    return {**found, "after": logprobs(client)}


@scenario("TrainingClient.forward_backward")
def forward_backward(world: World, call: Call) -> Any:
    client = world.trained()
    found = _output(call(client, batch(3), "cross_entropy"))
    client.optim_step(types.AdamParams(learning_rate=RATE)).result()
    return {**found, "after": logprobs(client)}


@scenario("TrainingClient.forward_backward_custom")
def forward_backward_custom(world: World, call: Call) -> Any:
    """The loss is the sum of the squares of the log-probabilities; its gradients are sent by hand, too."""

    def squares(_data: Any, tensors: list[Tensor]) -> tuple[Loss, dict[str, float]]:
        def backward() -> None:
            for tensor in tensors:
                tensor.grad = 2 * tensor.array

        value = float(sum(np.square(tensor.array).sum() for tensor in tensors))
        return Loss(value, backward), {"squares:sum": value}

    client, by_hand = world.trained(), world.trained()
    before = logprobs(client)
    with with_autograd():
        found = call(client, batch(2), squares)
    inputs: Any = {"target_tokens": TOKENS[1:], "weights": [-2 * value for value in before]}
    datum = types.Datum(model_input=batch()[0].model_input, loss_fn_inputs=inputs)
    by_hand.forward_backward([datum] * 2, "cross_entropy").result()
    for each in (client, by_hand):
        each.optim_step(types.AdamParams(learning_rate=RATE)).result()
    return {
        "metrics": found.metrics,
        "before": before,
        "outputs": len(found.loss_fn_outputs),
        "after": logprobs(client),
        "by_hand": logprobs(by_hand),
    }


@scenario("TrainingClient.optim_step")
def optim_step(world: World, call: Call) -> Any:
    client = world.untrained()
    before = logprobs(client)
    client.forward_backward(batch(), "cross_entropy").result()
    found = call(client, types.AdamParams(learning_rate=RATE, beta1=0.9, beta2=0.95, eps=1e-8, weight_decay=0.01))
    return {"result": type(found).__name__, "metrics": found.metrics, "before": before, "after": logprobs(client)}


@scenario("TrainingClient.save_state")
def save_state(world: World, call: Call) -> Any:
    client, more = world.trained(), {"user_metadata": {"step": "1"}} if world.recent else {}
    name = world.name("state")
    path = call(client, name, ttl_seconds=7200, **more).path
    world.step(client)
    again = call(client, name, overwrite=True).path
    made = world.service.create_training_client_from_state(again)
    made = made.result() if hasattr(made, "result") else made
    return {
        "paths": [path, again],
        "expected": f"tinker://{client.model_id}/weights/{name}",
        "listed": [found.tinker_path for found in world.rest.list_checkpoints(client.model_id).result().checkpoints],
        "overwritten": logprobs(made),
        "trained": logprobs(client),
    }


def _load(world: World, call: Call) -> Any:
    trained = world.trained()
    path = trained.save_state(world.name("state")).result().path
    client = world.untrained()
    found = call(client, path)
    seen = {"result": type(found).__name__, "saved": logprobs(trained), "loaded": logprobs(client)}
    world.step(trained)
    world.step(client)
    return {**seen, "original_after": logprobs(trained), "made_after": logprobs(client)}


@scenario("TrainingClient.load_state")
def load_state(world: World, call: Call) -> Any:
    return _load(world, call)


@scenario("TrainingClient.load_state_with_optimizer")
def load_state_with_optimizer(world: World, call: Call) -> Any:
    return _load(world, call)


@scenario("TrainingClient.save_weights_for_sampler")
def save_weights_for_sampler(world: World, call: Call) -> Any:
    client, name = world.trained(), world.name("sampler")
    path = call(client, name, ttl_seconds=7200).path
    sampler = client.create_sampling_client(path)
    sampler = sampler.result() if hasattr(sampler, "result") else sampler
    return {
        "path": path,
        "expected": f"tinker://{client.model_id}/sampler_weights/{name}",
        "sampled": sampler.compute_logprobs(types.ModelInput.from_ints(TOKENS)).result()[1:],
        "trained": logprobs(client),
    }


@scenario("TrainingClient.save_weights_external")
def save_weights_external(world: World, call: Call) -> Any:
    client, name = world.trained(), world.name("external")
    path = call(client, name, ttl_seconds=7200).path
    listed = world.rest.list_checkpoints(client.model_id).result().checkpoints
    return {
        "path": path,
        "expected": f"tinker://{client.model_id}/external_weights/{name}",
        "listed": [[found.tinker_path, found.checkpoint_type] for found in listed],
    }


@scenario("TrainingClient.save_weights_and_get_sampling_client")
def save_weights_and_get_sampling_client(world: World, call: Call) -> Any:
    client = world.trained()
    sampler = call(client)
    at_saving = logprobs(client)
    world.step(client)
    return {
        "client": type(sampler).__name__,
        "sampled": sampler.compute_logprobs(types.ModelInput.from_ints(TOKENS)).result()[1:],
        "at_saving": at_saving,
        "later": logprobs(client),
    }


@scenario("TrainingClient.create_sampling_client")
def create_sampling_client(world: World, call: Call) -> Any:
    sampler = call(world.run, world.kept_sampler)
    greedy = sampler.sample(types.ModelInput.from_ints(PROMPT), 1, GREEDY).result().sequences[0]
    known = world.sampler.sample(types.ModelInput.from_ints(PROMPT), 1, GREEDY).result().sequences[0]
    return {"client": type(sampler).__name__, "tokens": list(greedy.tokens), "known": list(known.tokens)}


@scenario("TrainingClient.get_info")
def get_info(world: World, call: Call) -> Any:
    found = call(world.run)
    return {"result": type(found).__name__, "arch": found.model_data.arch, **described(world.run)}


@scenario("TrainingClient.get_tokenizer")
def get_tokenizer(world: World, call: Call) -> Any:
    return tokenized(call, world.run)


def tokenized(call: Call, owner: Any) -> Any:
    """A word's tokens, and back, with the tokenizer that lies in the hub's cache."""
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    tokenizer = call(owner)
    tokens = tokenizer.encode("the quick banana", add_special_tokens=False)
    return {"tokens": tokens, "text": tokenizer.decode(tokens)}


@scenario("TrainingClient.get_telemetry")
def get_telemetry(world: World, call: Call) -> Any:
    return telemetry(world, call, world.run)


@scenario("TrainingClient.get_console_url")
def get_console_url(world: World, call: Call) -> Any:
    return {"url": call(world.run), "run": world.run_id}
