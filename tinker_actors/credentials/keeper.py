"""The Keeper: the one credential of a runtime, renewed before it expires and after it was refused."""

from __future__ import annotations

import base64
import binascii
import logging
import random
from typing import final

import msgspec
import trio

from tinker_actors.config import Config, Secret, access_headers
from tinker_actors.credentials.command import run_command
from tinker_actors.errors import APIError, APIResponseError, APIStatusError
from tinker_actors.ports import Credential, Credentials, FixedCredentials, Transport
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.service import auth_token

__all__ = ["Keeper", "lifetime_of"]

_log = logging.getLogger("tinker_actors.credentials")

_INVALID = 'error="invalid_token"'
_MARGIN = 60.0  # seconds before its end from which on a token is not used if another one can be had
_TRY_AGAIN = 60.0  # seconds until the next exchange after one that failed, and for tokens that tell no lifetime


class _Claims(msgspec.Struct, frozen=True):
    exp: float
    iat: float


class _Token(msgspec.Struct):
    credential: Credential
    refresh_at: float
    expires_at: float


@final
class Keeper(Credentials):
    """Gives the key, or what the credential command prints; where the server wants that, a token for which it is
    exchanged.

    A token is replaced at about half of its lifetime, at the latest a minute before its end; when that fails it is
    used as long as it lives. Tasks that need a new one at the same time share one exchange.
    """

    def __init__(self, config: Config, transport: Transport, rng: random.Random) -> None:
        self._config = config
        self._transport = transport
        self._random = rng
        self._command = config.credential_cmd
        self._key = config.api_key
        self._plain = None if self._key is None else self._made(self._key.reveal())
        self._token: _Token | None = None
        self._exchange = False
        self._lock = trio.Lock()

    async def current(self) -> Credential:
        """The credential of a request. Raises CredentialUnavailable when the command gives none, and what the
        exchange for a token raises.
        """
        if not self._exchanging:
            return self._plain if self._plain is not None else await self._printed()
        token = self._token
        now = trio.current_time()
        if token is not None and (now < token.refresh_at or (self._lock.locked() and self._lives(token))):
            return token.credential
        async with self._lock:
            token = self._token
            if token is None or trio.current_time() >= token.refresh_at:
                token = await self._replace(token)
        return token.credential

    async def refused(self, credential: Credential, challenge: str) -> bool:
        """True when another credential is at hand: a new token for an invalid one, other output of the command."""
        if self._exchanging:
            if _INVALID not in challenge:
                return False
            if self._token is not None and self._token.credential is credential:
                self._token = None  # the first of several to say so; the others find the next one
            return True
        if credential is not self._plain:
            return True
        if self._command is None or self._key is not None:
            return False
        self._plain = None
        return (await self._printed()).headers != credential.headers

    def learn(self, *, exchange: bool, source: str) -> None:
        """What the server's configuration says."""
        self._exchange = exchange
        if source == "credential_cmd" and self._command is not None and self._key is not None and not self._is_token:
            self._key = self._plain = self._token = None

    def renew(self, key: str) -> None:
        """Use ``key`` from now on, whatever else there was."""
        self._key = Secret(key)
        self._plain = self._made(key)
        self._token = None

    @property
    def _is_token(self) -> bool:
        return self._key is not None and self._key.reveal().startswith("eyJ")

    @property
    def _exchanging(self) -> bool:
        return self._exchange and not self._is_token

    def _lives(self, token: _Token) -> bool:
        return trio.current_time() < token.expires_at

    async def _printed(self) -> Credential:
        async with self._lock:
            if self._plain is None:
                self._plain = await self._run()
            return self._plain

    async def _run(self) -> Credential:
        assert self._command is not None  # a Config has one of the two
        return self._made((await run_command(self._command)).reveal())

    async def _replace(self, old: _Token | None) -> _Token:
        try:
            raw = self._plain if self._key is not None and self._plain is not None else await self._run()
            issued = await self._exchanged(raw)
        except APIError as error:
            final = isinstance(error, APIStatusError) and error.status == 401
            if old is None or final or not self._lives(old):
                raise
            _log.warning("the token could not be renewed, the present one is used on: %s", error)
            old.refresh_at = min(trio.current_time() + _TRY_AGAIN, old.expires_at)
            return old
        self._token = issued
        return issued

    async def _exchanged(self, raw: Credential) -> _Token:
        key = raw.secrets[0]
        api = Api(self._transport, self._config, FixedCredentials(key, access_headers(self._config)))
        answer = await auth_token(api)
        if not answer.jwt or not answer.jwt.isascii() or not answer.jwt.isprintable() or " " in answer.jwt:
            raise APIResponseError("POST /api/v1/auth/token: the token can't stand in a header")
        now = trio.current_time()
        lifetime = lifetime_of(answer.jwt)
        if lifetime is None:
            return _Token(self._made(answer.jwt, key), now + _TRY_AGAIN, now + _TRY_AGAIN)
        refresh_in = max(0.0, min(lifetime * self._random.uniform(0.45, 0.55), lifetime - _MARGIN))
        return _Token(self._made(answer.jwt, key), now + refresh_in, now + lifetime)

    def _made(self, secret: str, *others: str) -> Credential:
        extra = access_headers(self._config)
        access = [value for name, value in extra if name.endswith("secret")]
        return Credential((("x-api-key", secret), *extra), (secret, *others, *access))

    def __repr__(self) -> str:
        return "Keeper(...)"

    def __reduce__(self) -> str:
        raise TypeError("a Keeper is not pickled: give the key to the other process through its environment")


def lifetime_of(token: str) -> float | None:
    """Seconds from a JWT's issue to its end, as it says itself; None where it does not."""
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = msgspec.json.decode(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), type=_Claims)
    except (msgspec.DecodeError, binascii.Error, ValueError):
        return None
    seconds = claims.exp - claims.iat
    return seconds if 0 < seconds < float("inf") else None
