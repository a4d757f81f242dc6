"""Which class a server is of, where it can be told without asking."""

from __future__ import annotations

import re
from contextlib import suppress
from urllib.parse import urlsplit

from tinker_actors.config import Config
from tinker_actors.server_class import ServerClass
from tinker_actors.types import ClientConfig

__all__ = ["of_ids", "of_server"]

_HOSTED = ".thinkingmachines.dev"  # WIRE 1.1
# How sessions and models are named (WIRE 11.1). SkyRL loads into fresh models only, so it had better not be asked by
# a request. The ids of others (UUIDs) could be anybody's.
_SKYRL = (re.compile(r"session_[0-9a-f]{8}"), re.compile(r"model_[0-9a-f]{8}"))


def of_server(config: Config, server: ClientConfig) -> tuple[ServerClass, str] | None:
    """The class and how it is known: from the configuration, the server's own word or its address."""
    if config.server_class is not None:
        return config.server_class, "as configured"
    if server.server_class is not None:
        with suppress(ValueError):  # one that this client has not heard of
            return ServerClass(server.server_class), "as the server says"
    if f".{urlsplit(config.base_url).hostname}".endswith(_HOSTED):
        return ServerClass.DEDUP, "it is the hosted service"
    return None


def of_ids(session_id: str, model_id: str) -> tuple[ServerClass, str] | None:
    """The class of a server that names its sessions and models as a known one does."""
    if all(form.fullmatch(name) for form, name in zip(_SKYRL, (session_id, model_id), strict=True)):
        return ServerClass.DEDUP, "it is SkyRL by its ids"
    return None
