"""Owners: whose a session, a run, a checkpoint or a promise is.

A request belongs to the owner of its key. The functions that find things by id (``LocalService.find_model`` and
``find_sampler``, ``SessionTable.get`` and ``find``, ``FutureTable.find``, the Catalog's) take the owner first and
refuse what is another's with 404, in the words for what never was: an endpoint that finds things only through them
shows nobody anything of others. It hands them ``Incoming.owner``.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NewType, final

from tinker_actors.local.refusals import unauthorized

if TYPE_CHECKING:
    from tinker_actors.local.settings import ServerSettings

__all__ = ["NOBODY", "Owner", "Owners", "owns"]

Owner = NewType("Owner", str)
"""An owner's name as the settings give it, or ``key-`` and a digest of its only key."""

NOBODY: Final = Owner("nobody")
"""Who asks without a key, at the endpoints that need none."""

_ANY_KEY: Final = "tml-"


def owns(owner: Owner, of: Owner) -> bool:
    """Whether what belongs to ``of`` is ``owner``'s to see and to change."""
    return of == owner


@final
class Owners:
    """Who the server serves, by key. Keys of one name are one owner; any other key is an owner of its own."""

    def __init__(self, settings: ServerSettings, revoked: Iterable[str] = ()) -> None:
        self._revoked = set(revoked)
        self._any_key = settings.takes_any_key
        self._known = [(key.encode(), _owner_of_key(key)) for key in settings.api_keys or ()]
        self._known += [(key.encode(), Owner(name)) for name, keys in settings.owners.items() for key in keys]

    def digest(self, key: str) -> str:
        """What names ``key`` without giving it away."""
        return hashlib.sha256(key.encode()).hexdigest()

    def revoke(self, digest: str) -> None:
        """Take the key of this digest no more."""
        self._revoked.add(digest)

    def is_revoked(self, digest: str) -> bool:
        """Whether the key of this digest is taken no more."""
        return digest in self._revoked

    def find(self, key: str) -> Owner | None:
        """The owner of ``key``; None when the server does not take it."""
        if self.digest(key) in self._revoked:
            return None
        if self._any_key:
            return _owner_of_key(key) if key.startswith(_ANY_KEY) else None
        given, found = key.encode(), None
        for known, owner in self._known:  # every key is compared, so that the time tells nothing
            if hmac.compare_digest(given, known):
                found = owner
        return found

    def of_token(self, token: str | None) -> Owner | None:
        """Whose weights a request may read besides its own owner's: the owner of its ``weights_access_token``."""
        return None if token is None else self.find(token)

    def identify(self, key: str) -> Owner:
        """The owner of ``key``. Refuses with 401, never showing it."""
        owner = self.find(key)
        if owner is None:
            if self.is_revoked(self.digest(key)):
                raise unauthorized("the API key has been revoked. Use another")
            problem = "is malformed. This server takes any that starts with 'tml-'"
            raise unauthorized(f"the API key {problem if self._any_key else 'is not known to this server'}")
        return owner


def _owner_of_key(key: str) -> Owner:
    # records and listings carry it, so it must not give the key away
    return Owner(f"key-{hashlib.sha256(key.encode()).hexdigest()[:32]}")
