"""What a user of the official SDK writes first. Prints what it saw, as one JSON object.

python quickstart.py URL KEY MODEL LEARNING_RATE
"""

from __future__ import annotations

import json
import sys

import tinker
from tinker import types

TOKENS = [5, 9, 13, 17, 21, 25, 29, 6, 10]


def batch(count: int = 1) -> list[types.Datum]:
    """``count`` times the same example."""
    return [
        types.Datum(
            model_input=types.ModelInput.from_ints(TOKENS[:-1]),
            loss_fn_inputs={"target_tokens": TOKENS[1:], "weights": [1.0] * (len(TOKENS) - 1)},
        )
        for _ in range(count)
    ]


def step(client: tinker.TrainingClient, learning_rate: float) -> float:
    """One training step; its loss."""
    forward = client.forward_backward(batch(), "cross_entropy")
    update = client.optim_step(types.AdamParams(learning_rate=learning_rate))
    update.result()
    return forward.result().metrics["loss:sum"]


def target_logprobs(client: tinker.TrainingClient) -> list[float]:
    """Those of the example's targets."""
    return client.forward(batch(), "cross_entropy").result().loss_fn_outputs[0]["logprobs"].tolist()


def main(url: str, key: str, model: str, learning_rate: str) -> dict[str, object]:
    """The program."""
    seen: dict[str, object] = {}
    rate = float(learning_rate)
    with tinker.ServiceClient(base_url=url, api_key=key) as service:
        seen["models"] = [
            (offered.model_name, offered.max_context_length, offered.trainable, offered.sampleable)
            for offered in service.get_server_capabilities().supported_models
        ]

        training = service.create_lora_training_client(base_model=model, rank=8, seed=1).result()
        info = training.get_info()
        seen["info"] = (info.model_id, info.model_data.model_name, info.is_lora, info.lora_rank)
        seen["losses"] = [step(training, rate) for _ in range(50)]
        seen["trained"] = target_logprobs(training)

        saved = training.save_state("middle").result().path
        seen["saved"] = saved
        resumed = service.create_training_client_from_state_with_optimizer(saved).result()
        seen["resumed"] = target_logprobs(resumed)
        seen["losses_resumed"] = [step(resumed, rate) for _ in range(3)]
        seen["losses_original"] = [step(training, rate) for _ in range(3)]
        seen["weights_only"] = target_logprobs(service.create_training_client_from_state(saved).result())

        prompt = types.ModelInput.from_ints(TOKENS[:3])
        params = types.SamplingParams(max_tokens=4, temperature=0.0, stop=[])
        sampler = training.save_weights_and_get_sampling_client().result()
        response = sampler.sample(prompt=prompt, num_samples=2, sampling_params=params).result()
        seen["samples"] = [(list(s.tokens), s.stop_reason, s.logprobs, s.sequence_id) for s in response.sequences]
        seen["at_the_end"] = target_logprobs(training)
        seen["sampler_logprobs"] = sampler.compute_logprobs(types.ModelInput.from_ints(TOKENS)).result()

        path = training.save_weights_for_sampler("final").result().path
        seen["path"] = path
        named = service.create_sampling_client(model_path=path).result()
        seen["named_sample"] = list(named.sample(prompt, 1, params).result().sequences[0].tokens)
        base = service.create_sampling_client(base_model=model).result()
        seen["base_logprobs"] = base.compute_logprobs(types.ModelInput.from_ints(TOKENS)).result()

        chunked = service.create_lora_training_client(base_model=model, rank=4, seed=2).result()
        one = chunked.forward(batch(), "cross_entropy").result()
        many = chunked.forward_backward(batch(7), "cross_entropy").result()
        seen["chunks"] = (one.metrics["loss:sum"], many.metrics["loss:sum"], len(many.loss_fn_outputs))

        rest = service.create_rest_client()
        seen["listed"] = [
            (found.checkpoint_id, found.checkpoint_type, found.tinker_path)
            for found in rest.list_checkpoints(info.model_id).result().checkpoints
        ]
        seen["refusals"] = refusals(service, chunked, model)
    return seen


def refusals(service: tinker.ServiceClient, client: tinker.TrainingClient, model: str) -> dict[str, tuple[str, str]]:
    """What the SDK raises for bad input."""
    outside = types.Datum(
        model_input=types.ModelInput.from_ints([5000]), loss_fn_inputs={"target_tokens": [1], "weights": [1.0]}
    )
    attempts = {
        "base_model": lambda: service.create_lora_training_client(base_model="no/such", rank=8).result(),
        "rank": lambda: service.create_lora_training_client(base_model=model, rank=4096).result(),
        "token": lambda: client.forward([outside], "cross_entropy").result(),
        "path": lambda: service.create_training_client_from_state("tinker://nobody/weights/none").result(),
        "sampler": lambda: service.create_sampling_client(model_path="tinker://nobody/sampler_weights/none").result(),
    }
    raised: dict[str, tuple[str, str]] = {}
    for name, attempt in attempts.items():
        try:
            attempt()
        except Exception as error:
            raised[name] = (type(error).__name__, str(error))
    return raised


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
