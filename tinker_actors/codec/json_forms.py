"""How values that hold arrays, or stop sequences of several kinds, look in JSON.

msgspec reads these forms, and ``make`` turns each into its value, which checks itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from tinker_actors.errors import InvalidInput
from tinker_actors.types import (
    Datum,
    EncodedTextChunk,
    ForwardBackwardOutput,
    ModelInput,
    SampledSequence,
    SampleRequest,
    SampleResponse,
    SamplingParams,
    StopReason,
    TensorData,
    TensorDtype,
    TopkLogprobs,
)

__all__ = ["FORMS", "Form"]


class Form(msgspec.Struct, frozen=True):
    """``form`` is what msgspec reads; ``make`` gives the value, or raises InvalidInput."""

    form: type[Any]
    make: Callable[[Any], Any]


class ChunkForm(msgspec.Struct, tag="encoded_text"):
    """Other kinds of chunks are refused by their tag."""

    tokens: list[int]


class InputForm(msgspec.Struct):
    """ModelInput."""

    chunks: list[ChunkForm]


class TensorForm(msgspec.Struct):
    """TensorData; sparse ones are refused."""

    data: list[int | float]
    dtype: TensorDtype
    shape: list[int] | None = None
    sparse_crow_indices: list[int] | None = None
    sparse_col_indices: list[int] | None = None


class DatumForm(msgspec.Struct):
    """Datum."""

    model_input: InputForm
    loss_fn_inputs: dict[str, TensorForm]


class ParamsForm(msgspec.Struct):
    """SamplingParams."""

    max_tokens: int | None = None
    seed: int | None = None
    stop: str | list[str | int] | None = None
    temperature: float = 1.0
    top_k: int = -1
    top_p: float = 1.0


class SampleRequestForm(msgspec.Struct):
    """SampleRequest."""

    prompt: InputForm
    sampling_params: ParamsForm
    num_samples: int = 1
    sampling_session_id: str | None = None
    seq_id: int | None = None
    base_model: str | None = None
    model_path: str | None = None
    prompt_logprobs: bool | None = None
    topk_prompt_logprobs: int = 0
    topk_sample_logprobs: int = 0


TopkForm = list[list[tuple[int, float]] | None]


class SequenceForm(msgspec.Struct):
    """SampledSequence."""

    stop_reason: StopReason
    tokens: list[int]
    logprobs: list[float] | None = None
    topk_logprobs: TopkForm | None = None
    sequence_id: str | None = None


class SampleResponseForm(msgspec.Struct):
    """SampleResponse."""

    sequences: list[SequenceForm]
    prompt_logprobs: list[float | None] | None = None
    topk_prompt_logprobs: TopkForm | None = None
    prompt_cache_hit_tokens: int = 0


class ForwardBackwardOutputForm(msgspec.Struct):
    """ForwardBackwardOutput."""

    loss_fn_output_type: str
    loss_fn_outputs: list[dict[str, TensorForm]]
    metrics: dict[str, float] | None = None


def _chunk(form: ChunkForm) -> EncodedTextChunk:
    return EncodedTextChunk(form.tokens)


def _model_input(form: InputForm) -> ModelInput:
    return ModelInput(chunks=tuple(_chunk(chunk) for chunk in form.chunks))


def _tensor(form: TensorForm) -> TensorData:
    if form.sparse_crow_indices is not None or form.sparse_col_indices is not None:
        raise InvalidInput("TensorData", "is sparse, which is not taken", "Send it dense")
    return TensorData(form.data, form.dtype, form.shape)


def _datum(form: DatumForm) -> Datum:
    return Datum(_model_input(form.model_input), {key: _tensor(value) for key, value in form.loss_fn_inputs.items()})


def _params(form: ParamsForm) -> SamplingParams:
    stop = form.stop
    return SamplingParams(
        max_tokens=form.max_tokens,
        seed=form.seed,
        stop=stop if stop is None or isinstance(stop, str) else tuple(stop),  # pyright: ignore[reportArgumentType]
        temperature=form.temperature,
        top_k=form.top_k,
        top_p=form.top_p,
    )


def _sample_request(form: SampleRequestForm) -> SampleRequest:
    return SampleRequest(
        prompt=_model_input(form.prompt),
        sampling_params=_params(form.sampling_params),
        num_samples=form.num_samples,
        sampling_session_id=form.sampling_session_id,
        seq_id=form.seq_id,
        base_model=form.base_model,
        model_path=form.model_path,
        prompt_logprobs=form.prompt_logprobs,
        topk_prompt_logprobs=form.topk_prompt_logprobs,
        topk_sample_logprobs=form.topk_sample_logprobs,
    )


def _topk(form: TopkForm | None) -> TopkLogprobs | None:
    return None if form is None else tuple(None if row is None else tuple(row) for row in form)


def _sequence(form: SequenceForm) -> SampledSequence:
    logprobs = form.logprobs
    if logprobs is not None and len(logprobs) != len(form.tokens):
        raise InvalidInput("logprobs", "are not one for each token", "Send as many as tokens")
    return SampledSequence(
        stop_reason=form.stop_reason,
        tokens=EncodedTextChunk(form.tokens).array,
        logprobs=None if logprobs is None else np.asarray(TensorData(logprobs, "float32").to_numpy(), np.float32),
        topk_logprobs=_topk(form.topk_logprobs),
        sequence_id=form.sequence_id,
    )


def _sample_response(form: SampleResponseForm) -> SampleResponse:
    return SampleResponse(
        sequences=tuple(_sequence(sequence) for sequence in form.sequences),
        prompt_logprobs=None if form.prompt_logprobs is None else tuple(form.prompt_logprobs),
        topk_prompt_logprobs=_topk(form.topk_prompt_logprobs),
        prompt_cache_hit_tokens=form.prompt_cache_hit_tokens,
    )


def _forward_backward_output(form: ForwardBackwardOutputForm) -> ForwardBackwardOutput:
    return ForwardBackwardOutput(
        loss_fn_output_type=form.loss_fn_output_type,
        loss_fn_outputs=tuple({key: _tensor(value) for key, value in row.items()} for row in form.loss_fn_outputs),
        metrics=form.metrics or {},
    )


FORMS: Mapping[Any, Form] = {
    Datum: Form(DatumForm, _datum),
    EncodedTextChunk: Form(ChunkForm, _chunk),
    ForwardBackwardOutput: Form(ForwardBackwardOutputForm, _forward_backward_output),
    ModelInput: Form(InputForm, _model_input),
    SampleRequest: Form(SampleRequestForm, _sample_request),
    SampleResponse: Form(SampleResponseForm, _sample_response),
    SamplingParams: Form(ParamsForm, _params),
    TensorData: Form(TensorForm, _tensor),
}
