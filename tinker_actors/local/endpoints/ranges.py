"""Files that a client may ask for from a byte on, so that a download that broke off is continued (RFC 9110, 14)."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Final

from tinker_actors.local.endpoints.incoming import Raw

__all__ = ["ranged"]

_RANGE: Final = re.compile(r"bytes=(\d{1,18})-(\d{0,18})")


def ranged(file: Raw, asked: Mapping[str, str]) -> Raw:
    """``file``, or the part of it that the headers ``asked`` for: 206; 416 where it has no such part.

    Its ETag and digest are those of its bytes. A Range is heeded only as long as If-Range names them, and a Range of
    another form is none, as the RFC has it.
    """
    content = file.content
    digest = hashlib.sha256(content).digest()
    tag = f'"{digest.hex()}"'
    headers = {
        **file.headers,
        "accept-ranges": "bytes",
        "etag": tag,
        "repr-digest": f"sha-256=:{base64.b64encode(digest).decode()}:",
    }
    match = _RANGE.fullmatch(asked.get("range", ""))
    if match is None or asked.get("if-range", tag) != tag:
        return Raw(content, file.media_type, 200, headers)
    start = int(match[1])
    end = min(int(match[2]) + 1 if match[2] else len(content), len(content))
    if start >= end:
        return Raw(b"", file.media_type, 416, {**headers, "content-range": f"bytes */{len(content)}"})
    return Raw(
        content[start:end],
        file.media_type,
        206,
        {**headers, "content-range": f"bytes {start}-{end - 1}/{len(content)}"},
    )
