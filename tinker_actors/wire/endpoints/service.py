"""What the server offers, and what it asks of its clients."""

from __future__ import annotations

from tinker_actors.errors import NotFoundError
from tinker_actors.types import (
    ApiKeyInfo,
    AuthTokenResponse,
    ClientConfig,
    ClientDynamicConfig,
    GetServerCapabilitiesResponse,
    HealthResponse,
)
from tinker_actors.wire.api import Api

__all__ = [
    "api_key_info",
    "auth_token",
    "client_config",
    "client_dynamic_config",
    "get_server_capabilities",
    "healthz",
    "revoke_api_key",
]

_QUICK = 10.0  # seconds, as the official SDK has it
_EXCHANGE = 30.0


async def client_config(api: Api, sdk_version: str, *, attempt: int = 0) -> ClientConfig:
    """POST /client/config. A server that does not know it (404) gets the defaults."""
    try:
        body = {"sdk_version": sdk_version}
        return await api.call("/client/config", ClientConfig, body, purpose="session", attempt=attempt)
    except NotFoundError:
        return ClientConfig()


async def get_server_capabilities(api: Api, *, attempt: int = 0) -> GetServerCapabilitiesResponse:
    """GET /get_server_capabilities."""
    return await api.call(
        "/get_server_capabilities", GetServerCapabilitiesResponse, method="GET", purpose="rest", attempt=attempt
    )


async def client_dynamic_config(api: Api, sdk_version: str) -> ClientDynamicConfig:
    """POST /client/dynamic_config. A server that does not know it (404) gets the defaults."""
    try:
        return await api.call(
            "/client/dynamic_config",
            ClientDynamicConfig,
            {"sdk_version": sdk_version},
            purpose="session",
            timeout=_QUICK,
        )
    except NotFoundError:
        return ClientDynamicConfig()


async def healthz(api: Api) -> HealthResponse:
    """GET /healthz."""
    return await api.call("/healthz", HealthResponse, method="GET", purpose="rest")


async def auth_token(api: Api) -> AuthTokenResponse:
    """POST /auth/token: a token for the key that ``api`` sends."""
    return await api.call("/auth/token", AuthTokenResponse, {}, purpose="session", timeout=_EXCHANGE)


async def api_key_info(api: Api) -> ApiKeyInfo:
    """GET /auth/apikey/me: whose key this is."""
    return await api.call("/auth/apikey/me", ApiKeyInfo, method="GET", purpose="rest")


async def revoke_api_key(api: Api) -> None:
    """DELETE /auth/apikey/me: the key that is sent is good for nothing from now on."""
    await api.exchange("DELETE", "/auth/apikey/me", purpose="rest")
