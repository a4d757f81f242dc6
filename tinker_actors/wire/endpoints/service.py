"""What the server offers, and what it asks of its clients."""

from __future__ import annotations

from tinker_actors.errors import NotFoundError
from tinker_actors.types import ClientConfig, GetServerCapabilitiesResponse
from tinker_actors.wire.api import Api

__all__ = ["client_config", "get_server_capabilities"]


async def client_config(api: Api, sdk_version: str) -> ClientConfig:
    """POST /client/config. A server that does not know it (404) gets the defaults."""
    try:
        return await api.call("/client/config", ClientConfig, {"sdk_version": sdk_version}, purpose="session")
    except NotFoundError:
        return ClientConfig()


async def get_server_capabilities(api: Api) -> GetServerCapabilitiesResponse:
    """GET /get_server_capabilities."""
    return await api.call("/get_server_capabilities", GetServerCapabilitiesResponse, method="GET", purpose="rest")
