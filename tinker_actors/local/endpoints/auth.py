"""Keys: exchanged for tokens, described, revoked."""

from __future__ import annotations

from functools import partial

import trio

from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.presented import presented
from tinker_actors.local.refusals import invalid, unavailable
from tinker_actors.local.service import LocalService
from tinker_actors.local.tokens import is_token
from tinker_actors.types import ApiKeyDetails, ApiKeyInfo, ApiKeyOrganization, ApiKeyUser, AuthTokenResponse

__all__ = ["auth_token", "describe_key", "revoke_key"]


async def auth_token(service: LocalService, call: Incoming[None]) -> AuthTokenResponse:
    """A token for the requests of the next while, in exchange for a key."""
    await trio.lowlevel.checkpoint()
    return AuthTokenResponse(jwt=service.tokens.issue(_key(call)))


async def describe_key(service: LocalService, call: Incoming[None]) -> ApiKeyInfo:
    """The key that the request presents: a number made of its digest, its owner's name, and an address for it.

    Nobody reads mail there; but ``tinker auth login`` wants an address.
    """
    await trio.lowlevel.checkpoint()
    return ApiKeyInfo(
        key_id=_key_id(service.owners.digest(_key(call))),
        name=call.owner,
        note="",
        details=ApiKeyDetails(
            org_details=ApiKeyOrganization(name="local"), user_details=ApiKeyUser(email=f"{call.owner}@localhost")
        ),
    )


async def revoke_key(service: LocalService, call: Incoming[None]) -> None:
    """Take the key that the request presents no more, for good; nor any token that was given for it."""
    digest = service.owners.digest(_key(call))
    try:
        await service.offload.run(partial(service.catalog.revoke_key, digest))
    except OSError as error:
        raise unavailable(f"the key could not be revoked: {error}") from error
    service.owners.revoke(digest)
    details = {"key_id": _key_id(digest)}
    service.activity.audit.add(call.owner, "organizations", "api_key_revoked", details=details)


def _key_id(digest: str) -> int:
    return int(digest[:12], 16)


def _key(call: Incoming[None]) -> str:
    key = presented(call.headers)
    if is_token(key):
        raise invalid("X-API-Key", "is a token", "Present the API key itself")
    return key
