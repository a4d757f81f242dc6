"""URLs that let whoever has them read one thing for a while, without a key."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime, timedelta
from typing import Final, final

import msgspec

from tinker_actors.local.clock import Now
from tinker_actors.local.refusals import Refusal, gone

__all__ = ["LIFETIME", "Signature", "Signatures"]

LIFETIME: Final = timedelta(hours=1)


class Signature(msgspec.Struct, frozen=True, kw_only=True):
    """The query of a signed URL: until when it is good (in seconds of Unix time), and what proves that."""

    expires: int
    signature: str

    @property
    def query(self) -> str:
        """As it stands in the URL."""
        return f"expires={self.expires}&signature={self.signature}"


@final
class Signatures:
    """Signs with a secret of this process: a URL is no good after a restart."""

    def __init__(self, secret: bytes, now: Now) -> None:
        self._secret = secret
        self._now = now

    def expiry(self) -> datetime:
        """Until when a URL that is signed now is good."""
        return self._now().replace(microsecond=0) + LIFETIME

    def sign(self, what: str, expires: datetime) -> Signature:
        """The right to read ``what`` until ``expires``."""
        seconds = int(expires.timestamp())
        return Signature(expires=seconds, signature=self._proof(what, seconds))

    def check(self, what: str, given: Signature) -> None:
        """Refuse with 403 what was not signed here, with 410 what is over."""
        if not hmac.compare_digest(given.signature.encode(), self._proof(what, given.expires).encode()):
            raise Refusal(403, "the signature of this URL is wrong. Ask for a new URL")
        if given.expires <= self._now().timestamp():
            raise gone("this URL was good for an hour. Ask for a new one")

    def _proof(self, what: str, expires: int) -> str:
        return hmac.new(self._secret, f"{expires}\n{what}".encode(), hashlib.sha256).hexdigest()
