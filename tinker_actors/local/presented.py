"""The credential that a request presents."""

from __future__ import annotations

from collections.abc import Mapping

from tinker_actors.local.refusals import unauthorized

__all__ = ["presented"]


def presented(headers: Mapping[str, str]) -> str:
    """The key or token in ``X-API-Key``, else in ``Authorization: Bearer`` (WIRE 1.2). Refuses with 401."""
    credential = headers.get("x-api-key")
    if credential is None:
        scheme, _, value = headers.get("authorization", "").partition(" ")
        credential = value.strip() if scheme.lower() == "bearer" else None
    if not credential:
        raise unauthorized("there is no API key. Send one as X-API-Key")
    return credential
