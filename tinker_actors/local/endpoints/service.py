"""What the server is and offers."""

from __future__ import annotations

from typing import Any

import msgspec
import trio

from tinker_actors.errors import InvalidInput
from tinker_actors.local.endpoints.incoming import Incoming
from tinker_actors.local.service import LocalService
from tinker_actors.types import ClientConfig, GetServerCapabilitiesResponse, SupportedModel

__all__ = ["capabilities", "client_config", "dynamic_config", "healthz", "telemetry"]


class ClientConfigRequest(msgspec.Struct, frozen=True, kw_only=True):
    """POST /client/config and /client/dynamic_config."""

    sdk_version: str | None = None


class DynamicConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What clients may be told anew while they run."""

    refresh_interval_sec: int = 300
    sample_cancel_enabled: bool = False
    sample_cancel_max_batch_size: int = 64


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """GET /healthz."""

    status: str = "ok"


class TelemetryBatch(msgspec.Struct, frozen=True, kw_only=True):
    """POST /telemetry: events of any kind, each an object with an ``event_id``."""

    events: tuple[dict[str, Any], ...] = ()
    session_id: str = ""


class TelemetryAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """POST /telemetry."""

    status: str = "accepted"


async def healthz(_service: LocalService, _call: Incoming[None]) -> Health:
    """The server is there."""
    await trio.lowlevel.checkpoint()
    return Health()


async def client_config(service: LocalService, _call: Incoming[ClientConfigRequest]) -> ClientConfig:
    """How clients are asked to behave."""
    await trio.lowlevel.checkpoint()
    settings = service.settings
    return ClientConfig(
        pjwt_auth_enabled=settings.pjwt_auth_enabled,
        parallel_fwdbwd_chunks=settings.parallel_fwdbwd_chunks,
        proto_compress_fwdbwd=settings.proto_compress_fwdbwd,
        fwdbwd_max_chunk_len=settings.fwdbwd_max_chunk_len,
        fwdbwd_max_chunk_bytes_count=settings.fwdbwd_max_chunk_bytes_count,
        sample_max_concurrent_requests=settings.sample_max_concurrent_requests,
        use_pyqwest_transport=False,
        custom_loss_server_side=settings.custom_loss_server_side,
        sample_use_retrieve_futures=settings.sample_use_retrieve_futures,
        sample_join_sampling_session=settings.sample_join_sampling_session,
        server_class=settings.server_class if settings.tells_class else None,
    )


async def dynamic_config(service: LocalService, _call: Incoming[ClientConfigRequest]) -> DynamicConfig:
    """What may change while clients run: nothing here does."""
    await trio.lowlevel.checkpoint()
    return DynamicConfig(sample_cancel_enabled=service.settings.sample_cancel_enabled)


async def capabilities(service: LocalService, _call: Incoming[None]) -> GetServerCapabilitiesResponse:
    """The base models."""
    await trio.lowlevel.checkpoint()
    return GetServerCapabilitiesResponse(
        supported_models=tuple(
            SupportedModel(
                model_name=name, max_context_length=base.config.max_context, trainable=True, sampleable=True
            )
            for name, base in service.bases.items()
        )
    )


async def telemetry(service: LocalService, call: Incoming[TelemetryBatch]) -> TelemetryAnswer:
    """Keep a batch. The session may be over, or unknown; in another owner's name nothing is kept."""
    await trio.lowlevel.checkpoint()
    session_id = call.body.session_id
    events = [(_event_id(index, event), event) for index, event in enumerate(call.body.events)]
    if not service.catalog.knows_session(session_id) or service.catalog.session(call.owner, session_id) is not None:
        service.reports.keep(session_id, events)
    return TelemetryAnswer()


def _event_id(index: int, event: dict[str, Any]) -> str:
    event_id = event.get("event_id")
    if not isinstance(event_id, str) or not event_id:
        raise InvalidInput(f"events[{index}].event_id", "is no text", "Give each event an id of its own")
    return event_id
