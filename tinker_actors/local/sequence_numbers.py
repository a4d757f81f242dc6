"""The numbers that clients give their requests, models and samplers: identities, so wrong ones are never mended."""

from __future__ import annotations

from typing import Final

from tinker_actors.checks import integer

__all__ = ["check_model_number", "check_sample_number", "check_sampler_number", "check_seq_id"]

_LARGEST: Final = 2**63 - 1  # what protobuf's int64 can say (WIRE 6.2)


def check_seq_id(seq_id: int) -> None:
    """Raise InvalidInput unless a model's request can have this number (WIRE 4.1: 1, 2, 3, ...)."""
    integer("seq_id", seq_id, "Number a model's requests 1, 2, 3, ...", low=1, high=_LARGEST)


def check_sample_number(seq_id: int) -> None:
    """Raise InvalidInput unless a sampler's request can have this number (WIRE 4.5: from 0)."""
    integer("seq_id", seq_id, "Number a sampler's requests 0, 1, 2, ...", low=0, high=_LARGEST)


def check_model_number(model_seq_id: int) -> None:
    """Raise InvalidInput unless a session's model can have this number."""
    integer("model_seq_id", model_seq_id, "Number a session's models 0, 1, 2, ...", low=0, high=_LARGEST)


def check_sampler_number(sampling_session_seq_id: int) -> None:
    """Raise InvalidInput unless a session's sampler can have this number."""
    cure = "Number a session's samplers 0, 1, 2, ..."
    integer("sampling_session_seq_id", sampling_session_seq_id, cure, low=0, high=_LARGEST)
