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
    DmelChunk,
    EncodedTextChunk,
    ForwardBackwardOutput,
    GetServerCapabilitiesResponse,
    ImageAssetPointerChunk,
    ImageChunk,
    ImageFormat,
    ModelInput,
    ModelInputChunk,
    PromptAltTokens,
    ProvenanceSpan,
    SampledSequence,
    SampleRequest,
    SampleResponse,
    SamplingParams,
    StopReason,
    SupportedModel,
    TensorData,
    TensorDtype,
    TopkLogprobs,
)

__all__ = ["datum_of_form", "DatumForm", "Form", "FORMS"]


class Form(msgspec.Struct, frozen=True):
    """``form`` is what msgspec reads; ``make`` gives the value, or raises InvalidInput."""

    form: type[Any]
    make: Callable[[Any], Any]


class TextForm(msgspec.Struct, tag="encoded_text"):
    """EncodedTextChunk."""

    tokens: list[int]


class ImageForm(msgspec.Struct, tag="image"):
    """ImageChunk; its bytes are in base64."""

    data: bytes
    format: ImageFormat
    expected_tokens: int | None = None


class PointerForm(msgspec.Struct, tag="image_asset_pointer"):
    """ImageAssetPointerChunk."""

    location: str
    format: ImageFormat
    expected_tokens: int | None = None


class DmelForm(msgspec.Struct, tag="dmel"):
    """DmelChunk; its bytes are in base64."""

    dmel: bytes


ChunkForm = TextForm | ImageForm | PointerForm | DmelForm


class InputForm(msgspec.Struct):
    """ModelInput."""

    chunks: list[ChunkForm]


class TensorForm(msgspec.Struct):
    """TensorData."""

    data: list[int | float]
    dtype: TensorDtype
    shape: list[int] | None = None
    sparse_crow_indices: list[int] | None = None
    sparse_col_indices: list[int] | None = None


class DatumForm(msgspec.Struct):
    """Datum."""

    model_input: InputForm
    loss_fn_inputs: dict[str, TensorForm]
    model_input_spans: tuple[ProvenanceSpan, ...] | None = None
    loss_fn_input_spans: tuple[ProvenanceSpan, ...] | None = None


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
    target_prompt_logprobs: TensorForm | None = None
    prompt_alt_tokens_k: int = 0
    prompt_logprobs_last_n: int | None = None
    record_stability_info: bool = False


class CellForm(msgspec.Struct):
    """A cell of a top-k table, as some servers write it."""

    token_id: int
    logprob: float


TopkForm = list[list[tuple[int, float] | CellForm] | None]


class SequenceForm(msgspec.Struct):
    """SampledSequence."""

    stop_reason: StopReason
    tokens: list[int]
    logprobs: list[float] | None = None
    topk_logprobs: TopkForm | None = None
    sequence_id: str | None = None


class CapabilitiesForm(msgspec.Struct):
    """GetServerCapabilitiesResponse; some servers give names alone."""

    supported_models: list[SupportedModel | str | None]


class AlternativesForm(msgspec.Struct):
    """PromptAltTokens."""

    tokens: TensorForm
    logprobs: TensorForm


class SampleResponseForm(msgspec.Struct):
    """SampleResponse."""

    sequences: list[SequenceForm]
    prompt_logprobs: list[float | None] | None = None
    topk_prompt_logprobs: TopkForm | None = None
    prompt_cache_hit_tokens: int = 0
    target_prompt_logprobs: TensorForm | None = None
    prompt_alt_tokens: AlternativesForm | None = None


class ForwardBackwardOutputForm(msgspec.Struct):
    """ForwardBackwardOutput."""

    loss_fn_output_type: str
    loss_fn_outputs: list[dict[str, TensorForm]]
    metrics: dict[str, float] | None = None


def _chunk(form: ChunkForm) -> ModelInputChunk:
    match form:
        case TextForm():
            return EncodedTextChunk(form.tokens)
        case ImageForm():
            return ImageChunk(form.data, form.format, form.expected_tokens)
        case PointerForm():
            return ImageAssetPointerChunk(form.location, form.format, form.expected_tokens)
        case DmelForm():
            return DmelChunk(form.dmel)


def _model_input(form: InputForm) -> ModelInput:
    return ModelInput(chunks=tuple(_chunk(chunk) for chunk in form.chunks))


def _tensor(form: TensorForm) -> TensorData:
    return TensorData(form.data, form.dtype, form.shape, form.sparse_crow_indices, form.sparse_col_indices)


def datum_of_form(form: DatumForm) -> Datum:
    """The datum that ``form`` describes. Raises InvalidInput."""
    tensors = {key: _tensor(value) for key, value in form.loss_fn_inputs.items()}
    return Datum(_model_input(form.model_input), tensors, form.model_input_spans, form.loss_fn_input_spans)


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
        target_prompt_logprobs=_tensor_or_none(form.target_prompt_logprobs),
        prompt_alt_tokens_k=form.prompt_alt_tokens_k,
        prompt_logprobs_last_n=form.prompt_logprobs_last_n,
        record_stability_info=form.record_stability_info,
    )


def _tensor_or_none(form: TensorForm | None) -> TensorData | None:
    return None if form is None else _tensor(form)


def _alternatives(form: AlternativesForm) -> PromptAltTokens:
    return PromptAltTokens(tokens=_tensor(form.tokens), logprobs=_tensor(form.logprobs))


def _topk(form: TopkForm | None) -> TopkLogprobs | None:
    if form is None:
        return None
    return tuple(
        None
        if row is None
        else tuple((cell.token_id, cell.logprob) if isinstance(cell, CellForm) else cell for cell in row)
        for row in form
    )


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
        target_prompt_logprobs=_tensor_or_none(form.target_prompt_logprobs),
        prompt_alt_tokens=None if form.prompt_alt_tokens is None else _alternatives(form.prompt_alt_tokens),
    )


def _capabilities(form: CapabilitiesForm) -> GetServerCapabilitiesResponse:
    models = (
        SupportedModel(model_name=model) if isinstance(model, str) else model for model in form.supported_models
    )
    return GetServerCapabilitiesResponse(supported_models=tuple(model for model in models if model is not None))


def _forward_backward_output(form: ForwardBackwardOutputForm) -> ForwardBackwardOutput:
    return ForwardBackwardOutput(
        loss_fn_output_type=form.loss_fn_output_type,
        loss_fn_outputs=tuple({key: _tensor(value) for key, value in row.items()} for row in form.loss_fn_outputs),
        metrics=form.metrics or {},
    )


FORMS: Mapping[Any, Form] = {
    Datum: Form(DatumForm, datum_of_form),
    DmelChunk: Form(DmelForm, _chunk),
    EncodedTextChunk: Form(TextForm, _chunk),
    GetServerCapabilitiesResponse: Form(CapabilitiesForm, _capabilities),
    ForwardBackwardOutput: Form(ForwardBackwardOutputForm, _forward_backward_output),
    ImageAssetPointerChunk: Form(PointerForm, _chunk),
    ImageChunk: Form(ImageForm, _chunk),
    ModelInput: Form(InputForm, _model_input),
    PromptAltTokens: Form(AlternativesForm, _alternatives),
    SampledSequence: Form(SequenceForm, _sequence),
    SampleRequest: Form(SampleRequestForm, _sample_request),
    SampleResponse: Form(SampleResponseForm, _sample_response),
    SamplingParams: Form(ParamsForm, _params),
    TensorData: Form(TensorForm, _tensor),
}
