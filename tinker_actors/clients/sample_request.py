"""What a sample asks for, checked before anything is sent."""

from __future__ import annotations

from typing import Any

import msgspec

from tinker_actors.checks import flag, integer
from tinker_actors.errors import APIResponseError, InvalidInput
from tinker_actors.types import (
    EncodedTextChunk,
    ModelInput,
    SampleRequest,
    SampleResponse,
    SamplingParams,
    TensorData,
)
from tinker_actors.types.integers import first_outside

__all__ = ["checked_request", "require_honoured"]


def checked_request(
    prompt: Any,
    num_samples: Any,
    sampling_params: Any,
    *,
    prompt_logprobs: Any = False,
    topk_prompt_logprobs: Any = 0,
    topk_sample_logprobs: Any = 0,
    target_prompt_logprobs: Any = None,
    prompt_alt_tokens_k: Any = 0,
    prompt_logprobs_last_n: Any = None,
    record_stability_info: bool = False,
    vocabulary: int | None = None,
) -> SampleRequest:
    """The request, its sampling session, number and seed left open; ``vocabulary`` is the number of token ids.

    Raises InvalidInput, naming the argument.
    """
    num_samples = integer("num_samples", num_samples, "Ask for at least 1", low=1)
    topk_prompt_logprobs = integer("topk_prompt_logprobs", topk_prompt_logprobs, "Use 0 for none", low=0)
    topk_sample_logprobs = integer("topk_sample_logprobs", topk_sample_logprobs, "Use 0 for none", low=0)
    prompt_alt_tokens_k = integer("prompt_alt_tokens_k", prompt_alt_tokens_k, "Use 0 for none", low=0)
    prompt_logprobs = flag("include_prompt_logprobs", prompt_logprobs)
    if prompt_logprobs_last_n is not None:
        cure = "Ask for the last 1 or more, or None for all"
        prompt_logprobs_last_n = integer("prompt_logprobs_last_n", prompt_logprobs_last_n, cure, low=1)
        if not prompt_logprobs:
            problem = "is given without include_prompt_logprobs"
            raise InvalidInput("prompt_logprobs_last_n", problem, "Set include_prompt_logprobs, too")
    if not isinstance(prompt, ModelInput):
        raise InvalidInput("prompt", f"is of type {type(prompt).__name__}", "Use ModelInput.from_ints(tokens)")
    if not prompt.chunks or prompt.known_length == 0:  # images need not say how many tokens they become
        raise InvalidInput("prompt", "is empty", "Give at least one token")
    if vocabulary is not None:
        _check_vocabulary(prompt, vocabulary)
    if target_prompt_logprobs is not None:
        target_prompt_logprobs = _checked_targets(target_prompt_logprobs, prompt.known_length)
    if sampling_params is None:
        sampling_params = SamplingParams()
    if not isinstance(sampling_params, SamplingParams):
        problem = f"is of type {type(sampling_params).__name__}"
        raise InvalidInput("sampling_params", problem, "Give SamplingParams(max_tokens=...)")
    return SampleRequest(
        prompt=prompt,
        sampling_params=_with_listed_stops(sampling_params),
        num_samples=num_samples,
        sampling_session_id="",  # that of the moment it is sent
        prompt_logprobs=prompt_logprobs,
        topk_prompt_logprobs=topk_prompt_logprobs,
        topk_sample_logprobs=topk_sample_logprobs,
        target_prompt_logprobs=target_prompt_logprobs,
        prompt_alt_tokens_k=prompt_alt_tokens_k,
        prompt_logprobs_last_n=prompt_logprobs_last_n,
        record_stability_info=record_stability_info,
    )


def require_honoured(request: SampleRequest, response: SampleResponse) -> None:
    """Raise APIResponseError where the server has not done what only newer ones know (WIRE 5.9)."""
    if request.prompt_alt_tokens_k and response.prompt_alt_tokens is None:
        raise APIResponseError("the server gives no prompt_alt_tokens, though prompt_alt_tokens_k asked for them")
    if request.target_prompt_logprobs is not None and response.target_prompt_logprobs is None:
        raise APIResponseError("the server gives no target_prompt_logprobs, which were asked for")
    last_n, given = request.prompt_logprobs_last_n, response.prompt_logprobs
    if last_n is not None and given is not None and any(each is not None for each in given[:-last_n]):
        problem = f"the server gives prompt_logprobs before the last {last_n}, which alone were asked for"
        raise APIResponseError(f"{problem}: it does not know prompt_logprobs_last_n. Ask without it")


def _checked_targets(given: Any, length: int | None) -> TensorData:
    field = "target_prompt_logprobs"
    rows = "len(prompt) - 1" if length is None else str(length - 1)
    cure = f"Give token ids as an int64 TensorData of shape [{rows}, K], -1 for none"
    if not isinstance(given, TensorData):
        raise InvalidInput(field, f"is of type {type(given).__name__}", cure)
    if given.dtype != "int64":
        raise InvalidInput(field, f"is a tensor of {given.dtype}", cure)
    dims = given.dims
    if len(dims) != 2 or dims[1] < 1 or (length is not None and dims[0] != length - 1):
        raise InvalidInput(field, f"has shape {list(dims)}", cure)
    return given


def _with_listed_stops(params: SamplingParams) -> SamplingParams:
    cure = "Give text. An empty list means no stop at all, None the model's own"
    if isinstance(params.stop, str):
        if not params.stop:
            raise InvalidInput("stop", "is empty", cure)
        return msgspec.structs.replace(params, stop=(params.stop,))  # some servers only read lists
    for index, item in enumerate(params.stop or ()):
        if item == "":
            raise InvalidInput(f"stop[{index}]", "is empty", cure)
    return params


def _check_vocabulary(prompt: ModelInput, vocabulary: int) -> None:
    for index, chunk in enumerate(prompt.chunks):
        if isinstance(chunk, EncodedTextChunk) and (place := first_outside(chunk.array, 0, vocabulary - 1)):
            problem = f"holds {place}, outside of the vocabulary of {vocabulary}"
            cure = "Encode the text with the client's own get_tokenizer()"
            raise InvalidInput(f"prompt.chunks[{index}]", problem, cure)
