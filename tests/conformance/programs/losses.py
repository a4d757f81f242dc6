"""Every loss by the official SDK, on samples of its own. Prints what it saw, as one JSON object.

python losses.py URL KEY MODEL
"""

from __future__ import annotations

import json
import sys
from typing import Any

import numpy as np
import tinker
from tinker import types

PROMPT = [5, 9, 13, 17]
BOUNDS = {"clip_low_threshold": 0.9, "clip_high_threshold": 1.1}
CONFIGS: dict[str, dict[str, float]] = {
    "importance_sampling": {},
    "ppo": BOUNDS,
    "cispo": BOUNDS,
    "dro": {"beta": 0.5},
    "gspo": BOUNDS,
    "stable_reinforce": {"kl_coeff": 0.5},
}
ADVANTAGES = (1.0, -0.5, 2.0)


def examples(sequences: Any, loss_fn: str) -> list[types.Datum]:
    """One of each sampled sequence, as a program for reinforcement learning makes them."""
    data: list[types.Datum] = []
    for sequence, advantage in zip(sequences, ADVANTAGES, strict=True):
        tokens = [*PROMPT, *sequence.tokens]
        told, answered = len(PROMPT) - 1, len(sequence.tokens)
        inputs: dict[str, Any] = {
            "target_tokens": tokens[1:],
            "advantages": [0.0] * told + [advantage] * answered,
        }
        if loss_fn != "stable_reinforce":
            inputs["logprobs"] = [0.0] * told + list(sequence.logprobs)
        if loss_fn == "gspo":
            inputs["sequence_ratio_mask"] = [0.0] * told + [1.0] * answered
        datum = types.Datum(model_input=types.ModelInput.from_ints(tokens[:-1]), loss_fn_inputs=inputs)
        if loss_fn == "stable_reinforce":
            name = sequence.sequence_id
            runs = [
                types.PromptProvenanceSpan(sequence_id=name, offset=1, length=told),
                types.SampledProvenanceSpan(sequence_id=name, length=answered),
            ]
            begin = [types.PromptProvenanceSpan(sequence_id=name, length=len(PROMPT))]
            sampled = [types.SampledProvenanceSpan(sequence_id=name, length=answered - 1)]
            datum = datum.with_provenance(model_input=begin + sampled, loss_fn_inputs=runs)
        data.append(datum)
    return data


def several_targets(*, sparse: bool) -> types.Datum:
    """Two targets for some positions, none for others."""
    targets = np.array([[6, 7], [0, 0], [9, 0], [0, 0]], np.int64)
    weights = np.array([[0.5, 1.0], [0.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], np.float32)
    rows, columns = [0, 2, 2, 3, 3], [0, 1, 0]
    kept = weights != 0
    tensors: dict[str, Any] = {"target_tokens": targets, "weights": weights}
    if sparse:
        tensors = {
            "target_tokens": types.TensorData([6, 7, 9], "int64", [4, 2], rows, columns),
            "weights": types.TensorData(weights[kept].tolist(), "float32", [4, 2], rows, columns),
        }
    return types.Datum(model_input=types.ModelInput.from_ints(PROMPT), loss_fn_inputs=tensors)


def scores(sampler: tinker.SamplingClient) -> dict[str, Any]:
    """What a sampler says of a prompt."""
    rows, columns = [0, 1, 1, 2], [1, 0]
    response = sampler.sample(
        types.ModelInput.from_ints(PROMPT),
        1,
        types.SamplingParams(max_tokens=1, seed=1),
        include_prompt_logprobs=True,
        topk_prompt_logprobs=2,
        prompt_logprobs_last_n=2,
        target_prompt_logprobs=types.TensorData([PROMPT[1], PROMPT[3]], "int64", [3, 2], rows, columns),
        prompt_alt_tokens_k=3,
    ).result()
    targets, drawn = response.target_prompt_logprobs, response.prompt_alt_tokens
    assert targets is not None
    assert drawn is not None
    return {
        "prompt": response.prompt_logprobs,
        "topk": [None if row is None else len(row) for row in response.topk_prompt_logprobs or ()],
        "targets": (list(targets.data), targets.shape, targets.sparse_crow_indices, targets.sparse_col_indices),
        "drawn": (drawn.tokens.shape, drawn.logprobs.shape),
        "whole": sampler.compute_logprobs(types.ModelInput.from_ints(PROMPT)).result(),
    }


def main(url: str, key: str, model: str) -> dict[str, Any]:
    """The program."""
    seen: dict[str, Any] = {}
    with tinker.ServiceClient(base_url=url, api_key=key) as service:
        training = service.create_lora_training_client(base_model=model, rank=4, seed=1).result()
        sampler = training.save_weights_and_get_sampling_client(record_stability_info=True).result()
        params = types.SamplingParams(max_tokens=6, temperature=1.0, seed=3, stop=[])
        sequences = sampler.sample(types.ModelInput.from_ints(PROMPT), 3, params).result().sequences
        seen["old"] = [list(sequence.logprobs) for sequence in sequences]
        seen["scores"] = scores(sampler)
        # away from the policy that sampled, so that ratios are not all 1
        first = examples(sequences, "importance_sampling")
        for _ in range(2):
            training.forward_backward(first, "importance_sampling").result()
            training.optim_step(types.AdamParams(learning_rate=0.01)).result()
        seen["results"] = {}
        for loss_fn, config in CONFIGS.items():
            found = training.forward_backward(examples(sequences, loss_fn), loss_fn, config or None).result()
            new = [record["logprobs"].tolist()[len(PROMPT) - 1 :] for record in found.loss_fn_outputs]
            seen["results"][loss_fn] = {"metrics": found.metrics, "new": new}
        seen["several"] = []
        for sparse in (False, True):
            found = training.forward([several_targets(sparse=sparse)], "cross_entropy").result()
            logprobs = found.loss_fn_outputs[0]["logprobs"]
            seen["several"].append((found.metrics["loss:sum"], logprobs.shape, logprobs.tolist()))
        seen["refusals"] = {}
        for name, loss_fn, config in (
            ("setting", "ppo", {"beta": 1.0}),
            ("input", "gspo", None),
            ("provenance", "stable_reinforce", None),
        ):
            # a client each: the SDK never fills the number of a request that was refused
            client = service.create_lora_training_client(base_model=model, rank=1, seed=1).result()
            data = first[:1]
            if name == "provenance":
                inputs = {key: first[0].loss_fn_inputs[key] for key in ("target_tokens", "advantages")}
                data = [types.Datum(model_input=first[0].model_input, loss_fn_inputs=inputs)]
            try:
                client.forward_backward(data, loss_fn, config).result()
            except Exception as error:
                seen["refusals"][name] = (type(error).__name__, str(error))
    return seen


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
