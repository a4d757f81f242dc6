"""A session's trace: where it is, and the file itself at a URL that needs no key."""

from __future__ import annotations

from urllib.parse import quote

import trio

from tinker_actors.local.endpoints.incoming import Incoming, Raw
from tinker_actors.local.refusals import not_found
from tinker_actors.local.service import LocalService
from tinker_actors.local.signatures import Signature
from tinker_actors.local.traces import perfetto
from tinker_actors.types import TraceExportResponse

__all__ = ["download_trace", "trace_export"]


async def trace_export(service: LocalService, call: Incoming[None]) -> TraceExportResponse:
    """Where the trace of the session's requests so far is; of a session of an earlier process there is none."""
    await trio.lowlevel.checkpoint()
    session_id = call.path["session_id"]
    if service.catalog.session(call.owner, session_id) is None:
        raise not_found(f"session {session_id!r}: there is no such session")
    if session_id not in service.sessions:
        return TraceExportResponse(status="failed", error="what an earlier process did is not recorded")
    signature = service.signatures.sign(_signed(session_id), service.signatures.expiry())
    return TraceExportResponse(
        status="ready", url=f"{call.base}/local/trace/{quote(session_id)}.pftrace?{signature.query}"
    )


async def download_trace(service: LocalService, call: Incoming[Signature]) -> Raw:
    """The trace, for whoever has its URL."""
    await trio.lowlevel.checkpoint()
    session_id = call.path["session_id"]
    service.signatures.check(_signed(session_id), call.body)
    disposition = {"content-disposition": f'attachment; filename="{session_id}.pftrace"'}
    content = perfetto(session_id, service.activity.traces.of_session(session_id))
    return Raw(content, "application/octet-stream", 200, disposition)


def _signed(session_id: str) -> str:
    return f"trace\n{session_id}"
