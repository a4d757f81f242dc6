"""What a sample asks for, checked before anything is sent."""

from __future__ import annotations

from typing import Any

import msgspec

from tinker_actors.checks import flag, integer
from tinker_actors.errors import InvalidInput
from tinker_actors.types import EncodedTextChunk, ModelInput, SampleRequest, SamplingParams
from tinker_actors.types.integers import first_outside

__all__ = ["checked_request"]


def checked_request(
    prompt: Any,
    num_samples: Any,
    sampling_params: Any,
    *,
    prompt_logprobs: Any,
    topk_prompt_logprobs: Any,
    vocabulary: int | None,
) -> SampleRequest:
    """The request, its sampling session, number and seed left open; ``vocabulary`` is the number of token ids.

    Raises InvalidInput, naming the argument.
    """
    num_samples = integer("num_samples", num_samples, "Ask for at least 1", low=1)
    topk_prompt_logprobs = integer("topk_prompt_logprobs", topk_prompt_logprobs, "Use 0 for none", low=0)
    prompt_logprobs = flag("include_prompt_logprobs", prompt_logprobs)
    if not isinstance(prompt, ModelInput):
        raise InvalidInput("prompt", f"is of type {type(prompt).__name__}", "Use ModelInput.from_ints(tokens)")
    if not prompt.chunks or prompt.known_length == 0:  # images need not say how many tokens they become
        raise InvalidInput("prompt", "is empty", "Give at least one token")
    if vocabulary is not None:
        _check_vocabulary(prompt, vocabulary)
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
    )


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
