"""Where the tokens of a datum came from: runs of prompts and of samples, which some losses need."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import msgspec

from tinker_actors.checks import integer, text
from tinker_actors.errors import InvalidInput

__all__ = ["PromptProvenanceSpan", "ProvenanceSpan", "ProvenanceSpans", "SampledProvenanceSpan", "spans_of"]


class PromptProvenanceSpan(msgspec.Struct, frozen=True, kw_only=True, tag="prompt_tokens"):
    """``length`` tokens, from position ``offset`` on, of the prompt of the sequence ``sequence_id``."""

    sequence_id: str
    length: int
    offset: int = 0

    def __post_init__(self) -> None:
        _check(self)


class SampledProvenanceSpan(msgspec.Struct, frozen=True, kw_only=True, tag="sampled_tokens"):
    """``length`` of the tokens that were sampled as the sequence ``sequence_id``, from position ``offset`` on."""

    sequence_id: str
    length: int
    offset: int = 0

    def __post_init__(self) -> None:
        _check(self)


ProvenanceSpan: TypeAlias = PromptProvenanceSpan | SampledProvenanceSpan
ProvenanceSpans: TypeAlias = Sequence[ProvenanceSpan]


def spans_of(field: str, given: Any, positions: int | None, what: str) -> tuple[ProvenanceSpan, ...]:
    """``given`` as a tuple if it is a row of spans that covers just ``positions`` positions (any, for None)."""
    cure = "Give a list of PromptProvenanceSpan and SampledProvenanceSpan"
    if not isinstance(given, list | tuple):
        raise InvalidInput(field, "is not a list of spans", cure)
    spans = tuple(cast("list[Any]", given))
    for span in spans:
        if not isinstance(span, PromptProvenanceSpan | SampledProvenanceSpan):
            raise InvalidInput(field, f"holds a {type(span).__name__}", cure)
    covered = sum(span.length for span in spans)
    if positions is not None and covered != positions:
        raise InvalidInput(field, f"covers {covered} positions of {positions}", f"Let the spans tile {what} exactly")
    return spans


def _check(span: PromptProvenanceSpan | SampledProvenanceSpan) -> None:
    keep, kind = msgspec.structs.force_setattr, type(span).__name__
    text(f"{kind}.sequence_id", span.sequence_id, "Give the sequence_id of a SampledSequence")
    keep(span, "length", integer(f"{kind}.length", span.length, "Give the number of tokens", low=0))
    keep(span, "offset", integer(f"{kind}.offset", span.offset, "Give the first token's position", low=0))
