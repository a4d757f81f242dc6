"""The head of a request, checked in one go: h11 looks at each header alone, which costs several times more."""

from __future__ import annotations

import re
from typing import final

import h11

from tinker_actors.errors import InvalidInput

__all__ = ["RequestHead"]

# names are tokens; a value is visible ASCII, and blanks but at its ends
_VALUE = rb"[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?"
_FIELDS = re.compile(rb"(?:[-!#$%&'*+.^_`|~0-9A-Za-z]+: (?:" + _VALUE + rb")?\r\n)*")
_FRAMING = frozenset(("connection", "content-length", "expect", "host", "transfer-encoding", "upgrade"))


@final
class RequestHead:
    """``event`` is what h11's state machine must know and writes; ``rest`` the other headers and the empty line."""

    __slots__ = ("event", "rest")

    def __init__(
        self, method: str, target: str, host: str, headers: tuple[tuple[str, str], ...], size: int | None
    ) -> None:
        """``size`` is the body's, None for one that is sent in chunks. Raises InvalidInput."""
        framing = [("host", host)]
        if size is None:
            framing.append(("transfer-encoding", "chunked"))
        elif size or method not in ("GET", "HEAD"):
            framing.append(("content-length", str(size)))
        try:
            framing += [field for field in headers if field[0] in _FRAMING]
            self.event = h11.Request(method=method, target=target, headers=framing)
            lines = [f"{name}: {value}\r\n" for name, value in headers if name not in _FRAMING]
            fields = "".join(lines).encode("ascii")
            # a value may not bring lines of its own
            sound = fields.count(b"\n") == len(lines) and _FIELDS.fullmatch(fields)
        except (h11.LocalProtocolError, UnicodeEncodeError):
            sound, fields = False, b""
        if not sound:
            # outside of the handler, and without h11's words: they quote the value
            raise InvalidInput("headers", "hold characters that can't stand in a request", "Use printable ASCII")
        self.rest = fields + b"\r\n"
