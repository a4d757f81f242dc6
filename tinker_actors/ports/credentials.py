"""The Credentials port: what authorises a request, and what to do when a server refuses it."""

from __future__ import annotations

from typing import Protocol, final

__all__ = ["Credential", "Credentials", "FixedCredentials"]


@final
class Credential:
    """What authorises one request: ``headers`` to send and ``secrets`` to hide wherever they turn up.

    Printing or pickling it shows nothing of them.
    """

    __slots__ = ("headers", "secrets")

    def __init__(self, headers: tuple[tuple[str, str], ...], secrets: tuple[str, ...]) -> None:
        self.headers = headers
        self.secrets = secrets

    def __repr__(self) -> str:
        return "Credential(...)"

    def __reduce__(self) -> str:
        raise TypeError("a Credential is not pickled: give the key to the other process through its environment")


class Credentials(Protocol):
    """Where the wire gets its credential from, each time it sends."""

    async def current(self) -> Credential:
        """The credential for a request that is about to be sent. Raises CredentialError or an APIError if there is
        none to be had.
        """
        ...

    async def refused(self, credential: Credential, challenge: str) -> bool:
        """The server answered 401 to ``credential``; ``challenge`` is its WWW-Authenticate header.

        True when ``current`` now gives another one with which the same request is worth sending again at once.
        """
        ...

    def learn(self, *, exchange: bool, source: str) -> None:
        """The server's configuration: whether it wants keys exchanged for tokens, and which source it prefers."""
        ...

    def renew(self, key: str) -> None:
        """Use ``key`` from now on."""
        ...


@final
class FixedCredentials(Credentials):
    """One key, sent as X-API-Key until another one is given. ``extra`` are headers that go with it."""

    def __init__(self, key: str, extra: tuple[tuple[str, str], ...] = ()) -> None:
        self._extra = extra
        self.renew(key)

    async def current(self) -> Credential:
        """The key."""
        return self._credential

    async def refused(self, credential: Credential, challenge: str) -> bool:
        """There is no other one, unless it was given meanwhile."""
        return credential is not self._credential

    def learn(self, *, exchange: bool, source: str) -> None:
        """A fixed key is sent as it is."""

    def renew(self, key: str) -> None:
        """Use ``key`` from now on."""
        secrets = (key, *(value for name, value in self._extra if name.endswith("secret")))
        self._credential = Credential((("x-api-key", key), *self._extra), secrets)

    def __repr__(self) -> str:
        return "FixedCredentials(...)"
