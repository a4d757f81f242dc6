"""Tokens in place of keys: JSON Web Tokens (RFC 7519, HS256) that name an owner for a while (WIRE 1.2)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from typing import Final, final

import msgspec

from tinker_actors.local.clock import Now
from tinker_actors.local.owners import Owner, Owners
from tinker_actors.local.refusals import Refusal

__all__ = ["Tokens", "is_token"]

_PREFIX: Final = "eyJ"
_HEADER: Final = {"alg": "HS256", "typ": "JWT"}
_ISSUER: Final = "tinker-actors"


class _Claims(msgspec.Struct, frozen=True, kw_only=True):
    iss: str
    sub: Owner
    org_id: str
    iat: int
    exp: int
    key: str  # the digest of the key that it was given for


def is_token(credential: str) -> bool:
    """Whether a credential looks like a token, not like a key."""
    return credential.startswith(_PREFIX)


@final
class Tokens:
    """Gives and checks tokens that are good for ``lifetime`` seconds, signed with a secret of this process."""

    def __init__(self, secret: bytes, owners: Owners, now: Now, lifetime: float) -> None:
        self._secret = secret
        self._owners = owners
        self._now = now
        self._lifetime = lifetime

    def issue(self, key: str) -> str:
        """A token for ``key``. Refuses with 401 one that the server does not take."""
        owner = self._owners.identify(key)
        issued = int(self._now().timestamp())
        claims = _Claims(
            iss=_ISSUER,
            sub=owner,
            org_id="local",
            iat=issued,
            exp=issued + max(1, int(self._lifetime)),
            key=self._owners.digest(key),
        )
        signed = f"{_encode(msgspec.json.encode(_HEADER))}.{_encode(msgspec.json.encode(claims))}"
        return f"{signed}.{self._proof(signed)}"

    def identify(self, token: str) -> Owner:
        """Whose requests ``token`` allows. Refuses with a 401 that tells the client to fetch a new one."""
        signed, _, proof = token.rpartition(".")
        if not hmac.compare_digest(proof.encode(), self._proof(signed).encode()):
            raise _invalid("was not given by this server, or before it restarted")
        try:
            content = signed.partition(".")[2]
            claims = msgspec.json.decode(base64.urlsafe_b64decode(content + "=" * (-len(content) % 4)), type=_Claims)
        except (binascii.Error, ValueError, msgspec.MsgspecError):
            raise _invalid("can't be read") from None
        if claims.exp <= self._now().timestamp():
            raise _invalid("has expired")
        if self._owners.is_revoked(claims.key):
            raise _invalid("was given for a key that has been revoked")
        return claims.sub

    def _proof(self, signed: str) -> str:
        return _encode(hmac.new(self._secret, signed.encode(), hashlib.sha256).digest())


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def _invalid(problem: str) -> Refusal:
    headers = [("www-authenticate", 'Bearer error="invalid_token"')]
    return Refusal(401, f"the token {problem}. Exchange your key for a new one at /auth/token", headers)
