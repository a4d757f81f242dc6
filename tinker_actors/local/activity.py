"""What the server has done, written down where it is asked for: usage, audit log, traces."""

from __future__ import annotations

from typing import final

import trio

from tinker_actors.local.audit import AuditLog
from tinker_actors.local.clock import Now
from tinker_actors.local.futures import Result
from tinker_actors.local.model import Model, Operation
from tinker_actors.local.sampler import Sample, Sampler
from tinker_actors.local.traces import Span, Traces
from tinker_actors.local.usage import Usage, UsageKind, UsageLedger, hour_of
from tinker_actors.types import (
    FailedResult,
    ForwardBackwardRequest,
    SampleRequest,
    SampleResponse,
    SaveWeightsExternalResponse,
    SaveWeightsForSamplerResponse,
    SaveWeightsResponse,
)

__all__ = ["Activity"]


@final
class Activity:
    """Told by the actors what has come to an end, and when it began."""

    def __init__(self, now: Now) -> None:
        self.usage = UsageLedger()
        self.audit = AuditLog(now)
        self.traces = Traces()
        self._now = now

    def operation_done(self, model: Model, operation: Operation, begun: float, result: Result) -> None:
        """A model's operation has its result; ``begun`` in seconds of trio's clock."""
        failed = isinstance(result, FailedResult)
        request, run = operation.request, model.run
        tokens = 0
        if isinstance(request, ForwardBackwardRequest):
            tokens = sum(datum.model_input.length for datum in request.data)
        future = operation.future
        span = Span(
            model.model_id,
            str(operation),
            future.request_id,
            future.created_at,
            begun,
            trio.current_time(),
            tokens,
            failed,
        )
        self.traces.add(run.session_id, span)
        if failed:
            return
        self._count(model, "training", tokens)
        match result:
            case SaveWeightsResponse(path=path) | SaveWeightsExternalResponse(path=path):
                self._saved(model, path)
            case SaveWeightsForSamplerResponse(path=path) if path is not None:
                self._saved(model, path)
            case _:
                pass

    def sample_done(self, sample: Sample, begun: float, result: Result) -> None:
        """A sample has its result; ``begun`` in seconds of trio's clock."""
        sampler, future = sample.sampler, sample.future
        sampled = 0
        if isinstance(result, SampleResponse):
            sampled = sum(len(sequence.tokens) for sequence in result.sequences)
            self._sampled(sampler, "sampling_prefill", sample.request.prompt.length)
            self._sampled(sampler, "sampling_sample", sampled)
        span = Span(
            sampler.sampling_session_id,
            f"sample {sample.request.seq_id}",
            future.request_id,
            future.created_at,
            begun,
            trio.current_time(),
            sampled,
            isinstance(result, FailedResult),
        )
        self.traces.add(sampler.session_id, span)

    def stream_done(
        self, sampler: Sampler, request: SampleRequest, begun: float, tokens: tuple[int, int], *, failed: bool
    ) -> None:
        """A streamed sample has ended, or its client has gone, after so many ``tokens`` of prompt and sample."""
        prompt, sampled = tokens
        self._sampled(sampler, "sampling_prefill", prompt)
        self._sampled(sampler, "sampling_sample", sampled)
        name = "stream" if request.seq_id is None else f"stream {request.seq_id}"
        # a line of its own: streams overlap each other and what else the sampler does
        line = f"{sampler.sampling_session_id} {name} at {begun:.6f}"
        self.traces.add(sampler.session_id, Span(line, name, "", begun, begun, trio.current_time(), sampled, failed))

    def _sampled(self, sampler: Sampler, kind: UsageKind, tokens: int) -> None:
        usage = Usage(hour_of(self._now()), sampler.owner, sampler.session_id, sampler.base_model, kind)
        self.usage.add(usage, tokens)

    def _saved(self, model: Model, path: str | None) -> None:
        self._count(model, "checkpoint", 1)
        self.audit.add(model.run.owner, "checkpoints", "checkpoint_saved", model_id=model.model_id, tinker_path=path)

    def _count(self, model: Model, kind: UsageKind, count: int) -> None:
        run = model.run
        self.usage.add(Usage(hour_of(self._now()), run.owner, run.session_id, run.base_model, kind), count)
