"""What was sampled with ``record_stability_info``: the log-probabilities that stable_reinforce needs later.

A training request names samples by their ``sequence_id``, in the provenance of its targets (WIRE 5.4, 5.5).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import final

import msgspec
import numpy as np

from tinker_actors.errors import InvalidInput
from tinker_actors.types import (
    Datum,
    FloatArray,
    ForwardBackwardRequest,
    SampledProvenanceSpan,
    SampleResponse,
    TensorData,
    TokenArray,
)

__all__ = ["Recordings"]

_LOGPROBS = "logprobs"
_LONGEST_SHOWN = 80


class _Recording(msgspec.Struct, frozen=True):
    session_id: str
    tokens: TokenArray
    logprobs: FloatArray


@final
class Recordings:
    """Recorded sequences by id, each of one session. Beyond ``most`` tokens in all the oldest are dropped."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: OrderedDict[str, _Recording] = OrderedDict()
        self._tokens = 0

    def keep(self, session_id: str, sequence_ids: Sequence[str], response: SampleResponse) -> None:
        """Record the response's sequences, which have these ids."""
        for sequence_id, sequence in zip(sequence_ids, response.sequences, strict=True):
            assert sequence.logprobs is not None
            self._drop(sequence_id)
            self._kept[sequence_id] = _Recording(session_id, sequence.tokens, sequence.logprobs)
            self._tokens += len(sequence.tokens)
        while self._tokens > self._most:
            self._drop(next(iter(self._kept)))

    def forget(self, session_id: str) -> None:
        """A session is over."""
        for sequence_id in [key for key, recording in self._kept.items() if recording.session_id == session_id]:
            self._drop(sequence_id)

    def filled(self, session_id: str, request: ForwardBackwardRequest) -> ForwardBackwardRequest:
        """``request`` with ``logprobs`` in each datum: its own, or those that its sampled targets were recorded with.

        Raises InvalidInput, naming the datum, for targets that this session has no recording of.
        """
        data = [self._datum(session_id, datum, f"data[{index}]") for index, datum in enumerate(request.data)]
        return msgspec.structs.replace(request, data=tuple(data))

    def _datum(self, session_id: str, datum: Datum, where: str) -> Datum:
        if _LOGPROBS in datum.loss_fn_inputs or "target_tokens" not in datum.loss_fn_inputs:
            return datum
        field = f"{where}.loss_fn_input_spans"
        if datum.loss_fn_input_spans is None:
            cure = "Say with Datum.with_provenance which targets are of which recorded sample"
            raise InvalidInput(field, "is missing", cure)
        targets = datum.tensor("target_tokens").to_numpy()
        logprobs = np.zeros(len(targets), np.float32)
        start = 0
        for span in datum.loss_fn_input_spans:
            end = start + span.length
            if isinstance(span, SampledProvenanceSpan):
                recording = self._find(session_id, span, field)
                part = slice(span.offset, span.offset + span.length)
                if targets.ndim == 1 and not np.array_equal(recording.tokens[part], targets[start:end]):
                    problem = f"names {_shown(span)}, whose tokens are others than target_tokens[{start}:{end}]"
                    raise InvalidInput(field, problem, "Let each span begin where its tokens do")
                logprobs[start:end] = recording.logprobs[part]
            start = end
        return msgspec.structs.replace(datum, loss_fn_inputs={**datum.tensors(), _LOGPROBS: TensorData(logprobs)})

    def _find(self, session_id: str, span: SampledProvenanceSpan, field: str) -> _Recording:
        recording = self._kept.get(span.sequence_id)
        if recording is None or recording.session_id != session_id:
            cure = "Sample with record_stability_info in the same session, or give logprobs"
            raise InvalidInput(field, f"names {_shown(span)}, which is not recorded", cure)
        if span.offset + span.length > len(recording.tokens):
            problem = f"names tokens up to {span.offset + span.length} of {_shown(span)}"
            raise InvalidInput(field, problem, f"It has {len(recording.tokens)}")
        return recording

    def _drop(self, sequence_id: str) -> None:
        recording = self._kept.pop(sequence_id, None)
        if recording is not None:
            self._tokens -= len(recording.tokens)


def _shown(span: SampledProvenanceSpan) -> str:
    return f"the sequence {span.sequence_id[:_LONGEST_SHOWN]!r}"
