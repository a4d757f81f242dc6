"""open_runtime: the way in. Settings are checked, the tree is started, and all of it stopped in order."""

from __future__ import annotations

import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from msgspec import structs

from supervision import (
    DynamicSupervisorSpec,
    TaskSupervisorSpec,
    open_system,
)
from tinker_actors.checks import integer
from tinker_actors.config import Config, RetryConfig, parse_api_key
from tinker_actors.credentials import Keeper
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.home import require_trio
from tinker_actors.metrics import OWN, Metrics
from tinker_actors.ports import Disk, FileDisk, NoPoints, Offload, Points, Server, ThreadOffload, Transport
from tinker_actors.runtime.measured import MeasuredTransport
from tinker_actors.runtime.runtime import Runtime
from tinker_actors.runtime.settings import make_store, make_transport, set_level
from tinker_actors.runtime.stalls import check_alarm
from tinker_actors.runtime.tracing import make_spans, traced
from tinker_actors.sessions import (
    end_for,
)
from tinker_actors.wire.api import Api

__all__ = ["open_runtime"]

_OFFLOAD_THREADS = 4


@asynccontextmanager
async def open_runtime(
    *,
    base_url: str | None = None,
    api_key: str | None = None,
    config: Config | None = None,
    retry_config: RetryConfig | None = None,
    transport: Transport | None = None,
    seed: int | None = None,
    points: Points | None = None,
    offload: Offload | None = None,
    disk: Disk | None = None,
    stall_alarm: float | None = 5.0,
    server: Server | None = None,
    tracer: Any = None,
) -> AsyncGenerator[Runtime]:
    """Open a runtime for the server at ``base_url`` with ``api_key``, for ``server``, or as ``config`` says.

    Without them TINKER_BASE_URL and TINKER_API_KEY count. ``server`` is one of ``local_server()`` or another that
    knows its URL and key; ``config`` may stand beside it for everything else. ``retry_config`` says how requests are
    tried again, before what ``config`` says of it. ``seed`` fixes every random choice of the runtime (seeds of
    adapters and samples, jitter). What holds the event loop, or the interpreter, for ``stall_alarm`` seconds is
    logged with its stack; None: not watched. ``tracer``, of OpenTelemetry's, gets a span for each operation
    (docs/telemetry.md). ``disk`` is where it keeps files: the machine's own, unless another is given. Leaving the
    block stops everything in order: clients first, then sessions, which are finished at the server. Raises
    CredentialError or InvalidInput for bad settings, WrongPlace outside of trio.
    """
    require_trio("open_runtime()", "blocking_runtime()")
    if config is not None and not isinstance(config, Config):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise InvalidInput("config", f"is of type {type(config).__name__}", "Give Config.load(...)")
    if transport is not None and not callable(getattr(transport, "send", None)):
        problem = f"is of type {type(transport).__name__}, which can't send"
        raise InvalidInput("transport", problem, "Give a Transport: docs/transport.md shows two")
    if server is not None:
        if not callable(getattr(server, "transport", None)):
            problem = f"is of type {type(server).__name__}, which is no server"
            raise InvalidInput("server", problem, "Give what local_server() yields, or a base_url and an api_key")
        if base_url is not None or api_key is not None or transport is not None:
            raise InvalidInput("server", "is given beside a base_url, api_key or transport", "Give one or the other")
        base_url, api_key, transport = server.url, server.key, server.transport()
    if config is None:
        settings = Config.load(base_url=base_url, api_key=api_key)
    elif server is not None:
        settings = structs.replace(
            config, base_url=server.url, api_key=parse_api_key(server.key), credential_cmd=None
        )
    else:
        settings = config
    if retry_config is not None:
        settings = structs.replace(settings, retry=retry_config)
    if disk is not None and not callable(getattr(disk, "make_folder", None)):
        raise InvalidInput("disk", f"is of type {type(disk).__name__}, which is no disk", "Give a Disk, or nothing")
    alarm = check_alarm(stall_alarm)
    spans = make_spans(settings, tracer)
    set_level(settings.log_level)
    rng = random.Random(None if seed is None else integer("seed", seed, "Use an integer of 64 bits, or None"))
    carrier = transport if transport is not None else make_transport(settings)
    threads = offload if offload is not None else ThreadOffload(_OFFLOAD_THREADS)
    metrics = Metrics(OWN)
    files = disk if disk is not None else FileDisk(threads)
    store = make_store(settings, files, threads, metrics)
    runtime: Runtime | None = None
    try:
        api = Api(traced(MeasuredTransport(carrier, metrics), settings), settings, Keeper(settings, carrier, rng))
        async with open_system("runtime", random=random.Random(rng.getrandbits(64))) as system:
            sessions = await system.start_child(DynamicSupervisorSpec("sessions"))
            rest = await system.start_child(DynamicSupervisorSpec("rest"))
            tasks = await system.start_child(TaskSupervisorSpec("tasks", grace=0.0))
            runtime = Runtime(
                system,
                sessions,
                tasks,
                settings,
                api,
                rest=rest,
                rng=rng,
                points=points if points is not None else NoPoints(),
                offload=threads,
                disk=files,
                store=store,
                metrics=metrics,
                spans=spans,
                reports=random.Random(None if seed is None else f"telemetry {seed}"),
            )
            await runtime.watch(alarm)
            try:
                yield runtime
            except BaseException as error:
                runtime.end_as(end_for(error))
                raise
    finally:
        if runtime is not None:
            runtime.end_tasks()
        if store is not None:
            await store.aclose()
        if carrier is not transport and carrier is not settings.http_client:
            await carrier.aclose()
