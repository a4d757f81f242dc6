"""Samples that were recorded, and the training that needs them (stable_reinforce)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.local.harness import Caller, Stage, play, sample_body
from tinker_actors.local.recordings import Recordings
from tinker_actors.types import (
    Datum,
    ModelInput,
    PromptProvenanceSpan,
    SampledProvenanceSpan,
    SampledSequence,
    SampleResponse,
)

PROMPT = [1, 2, 3]  # that of sample_body


class Sampled:
    """A sequence as its client has it."""

    def __init__(self, sequence_id: str, tokens: list[int], logprobs: list[float]) -> None:
        self.sequence_id = sequence_id
        self.tokens = tokens
        self.logprobs = logprobs

    def datum(self, *, logprobs: bool = False, **changes: Any) -> Datum:
        """Prompt and answer with an advantage of 1; the provenance may be changed."""
        tokens = [*PROMPT, *self.tokens]
        told, answered = len(PROMPT) - 1, len(self.tokens)
        inputs: dict[str, Sequence[float]] = {
            "target_tokens": changes.get("targets", tokens[1:]),
            "advantages": [0.0] * told + [1.0] * answered,
        }
        if logprobs:
            inputs["logprobs"] = [0.0] * told + self.logprobs
        sampled = {"sequence_id": self.sequence_id, "length": answered} | changes.get("sampled", {})
        spans = [PromptProvenanceSpan(sequence_id=self.sequence_id, length=told), SampledProvenanceSpan(**sampled)]
        datum = Datum(ModelInput.from_ints(tokens[:-1]), inputs)
        return datum if changes.get("bare") else datum.with_provenance(model_input=spans, loss_fn_inputs=spans)


async def sampled(caller: Caller, sampler: str, seq_id: int, *, record: bool = True, count: int = 2) -> list[Sampled]:
    body = sample_body(sampler, seq_id, num_samples=count) | {"record_stability_info": record}
    promise = (await caller.post("/asample", body)).ok
    sequences = (await caller.result(promise["request_id"]))["sequences"]
    return [
        Sampled(sequence_id, sequence["tokens"], sequence["logprobs"])
        for sequence_id, sequence in zip(promise["sample_sequence_ids"], sequences, strict=True)
    ]


async def trained(caller: Caller, model_id: str, data: tuple[Datum, ...]) -> tuple[dict[str, float], str]:
    """The metrics of one step on ``data``, and the weights' digest after it."""
    promise = (await caller.forward_backward(model_id, 1, data, loss_fn="stable_reinforce")).ok
    await caller.result((await caller.optim_step(model_id, 2)).ok["request_id"])
    return dict((await caller.output(promise["request_id"])).metrics), await caller.digest(model_id)


def test_what_was_recorded_is_as_good_as_given_log_probabilities():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        sampler = await caller.sampler(session_id)
        answers = await sampled(caller, sampler, 0)
        assert len({tuple(answer.tokens) for answer in answers}) == 2
        first, second = [await caller.start_model(session_id, number) for number in range(2)]
        found = await trained(caller, first, tuple(answer.datum() for answer in answers))
        assert found == await trained(caller, second, tuple(answer.datum(logprobs=True) for answer in answers))
        assert found[0]["ratio:max"] == pytest.approx(1.0, rel=1e-4)  # the sampler's weights are the model's

    play(scenario)


WRONG = {
    "no provenance": ({"bare": True}, "is missing"),
    "unknown": ({"sampled": {"sequence_id": "nobody:0:0"}}, "'nobody:0:0', which is not recorded"),
    "too far": ({"sampled": {"offset": 1}}, "names tokens up to 5"),
    "other tokens": ({"targets": [2, 3, 4, 4, 4, 4]}, "whose tokens are others"),
}


@pytest.mark.parametrize("case", WRONG)
def test_targets_that_are_no_recorded_sample_are_refused_by_name(case: str):
    change, words = WRONG[case]

    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        (answer,) = await sampled(caller, await caller.sampler(session_id), 0, count=1)
        assert answer.tokens != [4, 4, 4, 4]
        data = (answer.datum(), answer.datum(**change))
        refused = await caller.forward_backward(model_id, 1, data, loss_fn="stable_reinforce")
        assert refused.status == 400
        assert refused.detail.startswith("data[1].loss_fn_input_spans: ")
        assert words in refused.detail
        await trained(caller, model_id, (answer.datum(),))

    play(scenario)


def test_other_sessions_and_unrecorded_samples_are_not_there():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        (other,) = await sampled(caller, await caller.sampler(await caller.session()), 0, count=1)
        (silent,) = await sampled(caller, await caller.sampler(session_id), 0, count=1, record=False)
        model_id = await caller.start_model(session_id)
        for answer in (other, silent):
            refused = await caller.forward_backward(model_id, 1, (answer.datum(),), loss_fn="stable_reinforce")
            assert refused.status == 400
            assert "not recorded" in refused.detail
        await trained(caller, model_id, (silent.datum(logprobs=True),))

    play(scenario)


def test_the_oldest_go_and_a_repeated_request_still_gets_its_promise():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        sampler = await caller.sampler(session_id)
        model_id = await caller.start_model(session_id)
        (first,) = await sampled(caller, sampler, 0, count=1)
        data = (first.datum(),)
        promise = (await caller.forward_backward(model_id, 1, data, loss_fn="stable_reinforce")).ok
        later = await sampled(caller, sampler, 1)
        assert (await caller.forward_backward(model_id, 2, data, loss_fn="stable_reinforce")).status == 400
        assert (await caller.forward_backward(model_id, 1, data, loss_fn="stable_reinforce")).ok == promise
        assert (await caller.forward_backward(model_id, 2, (later[1].datum(),), loss_fn="stable_reinforce")).ok

    play(scenario, max_recorded_tokens=8)


def test_a_session_that_is_over_leaves_nothing():
    recordings = Recordings(100)
    for session_id in ("a", "b", "a"):
        tokens, logprobs = np.arange(3, dtype=np.int32), np.zeros(3, np.float32)
        sequence = SampledSequence(stop_reason="length", tokens=tokens, logprobs=logprobs)
        recordings.keep(session_id, (f"{session_id}:0",), SampleResponse(sequences=(sequence,)))
    recordings.forget("a")
    assert list(recordings._kept) == ["b:0"]  # pyright: ignore[reportPrivateUsage]
    assert recordings._tokens == 3  # pyright: ignore[reportPrivateUsage]


def test_an_optimizer_that_is_not_offered_is_refused_wherever_it_is_named():
    async def scenario(stage: Stage) -> None:
        caller = stage.caller
        session_id = await caller.session()
        model_id = await caller.start_model(session_id)
        path = (await caller.save(model_id, 1, "kept"))["path"]
        step = {"model_id": model_id, "seq_id": 2, "optimizer_params": {"type": "dimuon", "learning_rate": 0.1}}
        load = {"session_id": session_id, "model_seq_id": 1, "path": path, "optimizer": False}
        load["optimizer_config"] = {"type": "dimuon", "version": 1}
        for target, body, field in (
            ("/optim_step", step, "optimizer_params"),
            ("/optim_step", step | {"adam_params": {"learning_rate": 0.1}}, "optimizer_params"),
            ("/load_weights", load, "optimizer_config"),
        ):
            answer = await caller.post(target, body)
            assert answer.status == 400
            assert answer.detail.startswith(f"{field}: ")
            assert "dimuon" in answer.detail
        await caller.train(model_id, 2)

    play(scenario)
