"""Many promises watched at once, and promises given up."""

from __future__ import annotations

from typing import TypeAlias

from tinker_actors.types.checked import Checked

__all__ = [
    "CancelFutureRequest",
    "FutureCompletion",
    "FutureFailed",
    "FutureFinished",
    "RetrieveFuturesRequest",
    "RetrieveFuturesResponse",
    "SamplingSessionTarget",
]


class SamplingSessionTarget(Checked, frozen=True, kw_only=True, tag="sampling_session"):
    """The promises of one sampling session; ``cloned_sampler_id`` is seq_id // 1,000,000,000, 0 for the original."""

    sampling_session_id: str
    cloned_sampler_id: int = 0


class RetrieveFuturesRequest(Checked, frozen=True, kw_only=True):
    """POST /retrieve_futures: what was completed after ``prev_cursor``.

    ``timeout`` is how many seconds the server holds the request, None as it likes; ``retrieved_request_ids`` are
    those whose results the client has, so that the server may forget them.
    """

    target: SamplingSessionTarget
    prev_cursor: int = 0
    timeout: float | None = None
    retrieved_request_ids: tuple[str, ...] = ()


class FutureFinished(Checked, frozen=True, kw_only=True, tag_field="state", tag="finished"):
    """A result is there, of so many bytes if the server says."""

    request_id: str
    response_payload_uncompressed_size: int | None = None


class FutureFailed(Checked, frozen=True, kw_only=True, tag_field="state", tag="failed"):
    """A request has failed: retrieve_future gives its error."""

    request_id: str


FutureCompletion: TypeAlias = FutureFinished | FutureFailed


class RetrieveFuturesResponse(Checked, frozen=True, kw_only=True):
    """What was completed, and the cursor to ask from next."""

    completions: tuple[FutureCompletion, ...]
    cursor: int


class CancelFutureRequest(Checked, frozen=True, kw_only=True):
    """POST /cancel_future: nobody waits for this sampling result any more."""

    request_id: str
