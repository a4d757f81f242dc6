"""Samples that arrive token by token, from servers that stream."""

from __future__ import annotations

from tinker_actors.types.checked import Checked

__all__ = ["SampleStreamChunk"]


class SampleStreamChunk(Checked, frozen=True, kw_only=True):
    """One event of a streamed sample; the last one has a ``finish_reason``, a failed one an ``error``."""

    token: str | None = None
    token_id: int | None = None
    index: int | None = None
    logprob: float | None = None
    finish_reason: str | None = None
    total_tokens: int | None = None
    error: str | None = None

    @property
    def done(self) -> bool:
        """Whether nothing follows."""
        return self.finish_reason is not None or self.error is not None
