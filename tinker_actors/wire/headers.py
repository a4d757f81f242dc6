"""Headers that go with requests, and those whose values nobody may see."""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterable
from typing import TypeAlias

from tinker_actors.version import __version__

__all__ = ["GENERATION", "Headers", "common_headers", "merged", "on_behalf_of", "redacted", "without_secrets"]

Headers: TypeAlias = tuple[tuple[str, str], ...]

GENERATION = "0.38.0"
"""The generation of the official SDK whose protocol this client speaks."""

_HIDDEN = "[hidden]"
_SECRET = frozenset(
    (
        "authorization",
        "cf-access-client-id",
        "cf-access-client-secret",
        "cookie",
        "proxy-authorization",
        "set-cookie",
        "x-api-key",
        "x-tinker-weights-access-token",
    )
)
_TELLING = ("key", "password", "secret", "token")  # within the names that users give their own headers
_FOR_ANY_HOST = frozenset(("accept", "accept-encoding", "user-agent"))
_SYSTEMS = {"linux": "Linux", "darwin": "MacOS", "windows": "Windows", "freebsd": "FreeBSD", "openbsd": "OpenBSD"}
_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64", "arm": "arm"}


def common_headers() -> Headers:
    """What goes with every request: this product's name, and what it runs on under the names that servers know."""
    system, machine = platform.system().lower(), platform.machine().lower()
    return (
        ("accept-encoding", "gzip, zstd"),
        ("user-agent", f"tinker-actors/{__version__}"),
        ("x-stainless-package-version", __version__),
        ("x-stainless-os", _SYSTEMS.get(system, f"Other:{system}" if system else "Unknown")),
        ("x-stainless-arch", _MACHINES.get(machine, f"other:{machine}" if machine else "unknown")),
        ("x-stainless-runtime", platform.python_implementation()),
        ("x-stainless-runtime-version", ".".join(map(str, sys.version_info[:3]))),
        ("x-stainless-async", "async:trio"),
    )


def on_behalf_of(method: str) -> Headers:
    """Says which public method a request stems from, such as "TrainingClient.forward_backward"."""
    return (("x-sdk-version", GENERATION), ("x-sdk-method", method))


def merged(*groups: Iterable[tuple[str, str]]) -> Headers:
    """All groups, names in lower case; where a name is in several, the last one counts."""
    return tuple({name.lower(): value for group in groups for name, value in group}.items())


def redacted(headers: Iterable[tuple[str, str]]) -> Headers:
    """``headers`` fit to be shown."""
    return tuple((name, _HIDDEN if _is_secret(name) else value) for name, value in headers)


def without_secrets(headers: Iterable[tuple[str, str]]) -> Headers:
    """Of ``headers`` only what any host may see."""
    return tuple((name, value) for name, value in headers if name.lower() in _FOR_ANY_HOST)


def _is_secret(name: str) -> bool:
    known = name.lower()
    if known in _SECRET:
        return True
    return known != "x-idempotency-key" and any(word in known for word in _TELLING)
