"""SamplerHandle: what another process needs to sample from the same weights, but for the key."""

from __future__ import annotations

import msgspec

__all__ = ["SamplerHandle"]


class SamplerHandle(msgspec.Struct, frozen=True, kw_only=True):
    """A sampling client as a value, without any key: pickle it, or send it as text.

    Get it from a client's ``get_sampler_handle()``; where it arrives, ``create_sampling_client_from_handle()`` makes
    a client of it. It is good for as long as the session at the server is.
    """

    base_url: str
    session_id: str
    sampling_session_id: str
    model_path: str | None = None
    base_model: str | None = None
    known_model: str | None = None
    """The base model of the weights, for their tokenizer, where it is known."""
    record_stability_info: bool = False
