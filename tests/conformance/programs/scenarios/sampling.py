"""What SamplingClient offers."""

from __future__ import annotations

import pickle
from typing import Any

import tinker
from tinker import types

from tests.conformance.programs.scenario import TOKENS, Call, World, scenario
from tests.conformance.programs.scenarios.service import GREEDY, telemetry
from tests.conformance.programs.scenarios.training import PROMPT, tokenized


def _sequences(response: Any) -> list[Any]:
    return [[list(found.tokens), found.stop_reason, list(found.logprobs or ())] for found in response.sequences]


@scenario("SamplingClient.sample")
def sample(world: World, call: Call) -> Any:
    prompt = types.ModelInput.from_ints(PROMPT)
    params = types.SamplingParams(max_tokens=6, temperature=1.0, seed=3, top_k=20, top_p=0.9, stop=[])
    first = call(world.sampler, prompt, 2, params, include_prompt_logprobs=True, topk_prompt_logprobs=2)
    greedy = _sequences(call(world.sampler, prompt, 1, GREEDY))[0]
    stopped = call(world.sampler, prompt, 1, types.SamplingParams(max_tokens=4, temperature=0.0, stop=[greedy[0][1]]))
    whole = types.ModelInput.from_ints([*PROMPT, *greedy[0]])
    return {
        "sampled": _sequences(first),
        "again": _sequences(call(world.sampler, prompt, 2, params)),
        "greedy": greedy,
        "stopped": _sequences(stopped)[0],
        "prompt": first.prompt_logprobs,
        "topk": first.topk_prompt_logprobs,
        "scores": world.sampler.compute_logprobs(whole).result(),
    }


@scenario("SamplingClient.compute_logprobs")
def compute_logprobs(world: World, call: Call) -> Any:
    found = call(world.sampler, types.ModelInput.from_ints(TOKENS))
    seen = {
        "scores": found,
        "trained": world.run.forward(_whole(), "cross_entropy").result().loss_fn_outputs[0]["logprobs"].tolist(),
    }
    if world.recent:
        seen["last"] = call(world.sampler, types.ModelInput.from_ints(TOKENS), prompt_logprobs_last_n=2)
    return seen


def _whole() -> list[types.Datum]:
    inputs: Any = {"target_tokens": TOKENS[1:], "weights": [1.0] * (len(TOKENS) - 1)}
    return [types.Datum(model_input=types.ModelInput.from_ints(TOKENS[:-1]), loss_fn_inputs=inputs)]


@scenario("SamplingClient.create")
def create(world: World, call: Call) -> Any:
    made = call(tinker.SamplingClient, world.service.holder, model_path=world.kept_sampler)
    return _same_sampler(world, made)


def _same_sampler(world: World, made: Any) -> Any:
    prompt = types.ModelInput.from_ints(TOKENS)
    copied = pickle.loads(pickle.dumps(made))
    return {
        "client": type(made).__name__,
        "made": made.compute_logprobs(prompt).result(),
        "known": world.sampler.compute_logprobs(prompt).result(),
        "copied": copied.compute_logprobs(prompt).result(),
        "number": copied._request_id_counter // 1_000_000_000,
        "polls_for_all": getattr(made, "_futures_poller", None) is not None,
    }


@scenario("SamplingClient.get_base_model")
def get_base_model(world: World, call: Call) -> Any:
    return {"base": call(world.sampler), "model": world.model}


@scenario("SamplingClient.get_tokenizer")
def get_tokenizer(world: World, call: Call) -> Any:
    return tokenized(call, world.sampler)


@scenario("SamplingClient.get_telemetry")
def get_telemetry(world: World, call: Call) -> Any:
    return telemetry(world, call, world.sampler)


@scenario("SamplingClient.on_queue_state_change")
def on_queue_state_change(world: World, call: Call) -> Any:
    """The SDK calls it with what a poll says; it only writes to the log."""
    from tinker.lib.api_future_impl import QueueState

    return call(world.sampler, QueueState.PAUSED_CAPACITY, "the server is busy")


@scenario("SamplingClient.get_sampler_handle")
def get_sampler_handle(world: World, call: Call) -> Any:
    handle = call(world.sampler)
    return {"text": isinstance(handle, str), "secret": world.key in handle}


@scenario("SamplingClient.from_sampler_handle")
def from_sampler_handle(world: World, call: Call) -> Any:
    made = call(tinker.SamplingClient, world.sampler.get_sampler_handle(), api_key=world.key)
    return _same_sampler(world, made)
