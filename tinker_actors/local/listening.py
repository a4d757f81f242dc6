"""The socket that a server listens on: loopback, or with keys of its own wherever it is asked to."""

from __future__ import annotations

import ipaddress
import socket
from typing import Final

from tinker_actors.errors import InvalidInput

__all__ = ["address_of", "open_listener"]

# Hypercorn's default of 100 waiting connections breaks clients under load.
_BACKLOG: Final = 4096


def open_listener(host: str, port: int, *, keys: bool) -> socket.socket:
    """A socket that listens at ``host`` (a name or an address) and ``port`` (0 takes a free one).

    Without ``keys`` any key would do, so whoever reaches the address could use the server: then an address beyond
    loopback is refused, before it is bound. Raises InvalidInput for that and for a host that there is not, OSError
    for an address in use.
    """
    family, address = _resolved(host, port)
    if not keys and not _is_loopback(address):
        raise InvalidInput(
            "host",
            f"{host!r} is reached from other machines, and the server would take any key",
            "Give it keys (--api-key, or TINKER_ACTORS_SERVER_KEYS), or listen at 127.0.0.1",
        )
    # Hypercorn's own leaks when the address is in use
    listener = socket.create_server((address, port), family=family, backlog=_BACKLOG)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted connections inherit it
    return listener


def address_of(listener: socket.socket) -> str:
    """HOST:PORT, as it stands in a URL."""
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if listener.family is socket.AF_INET6 else f"{host}:{port}"


def _resolved(host: str, port: int) -> tuple[socket.AddressFamily, str]:
    # what is looked at is what is bound: a name could mean another address a moment later
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise InvalidInput("host", f"{host!r} is no address ({error})", "Give one of this machine's") from None
    # IPv4 first, as where names are not resolved
    family, _, _, _, place = min(found, key=lambda entry: entry[0] is not socket.AF_INET)
    return family, str(place[0])


def _is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address).is_loopback
