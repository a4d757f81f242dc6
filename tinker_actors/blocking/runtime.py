"""``blocking_runtime``: the runtime for scripts, threads, asyncio and notebooks, in a thread of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from types import TracebackType
from typing import ParamSpec, Self, cast, final

from tinker_actors.blocking.delegate import Handle, answered, at_once, blocking
from tinker_actors.blocking.engine import Engine
from tinker_actors.blocking.jobs import BlockingJobBlock
from tinker_actors.blocking.recovery import BlockingRecovery, shown
from tinker_actors.blocking.rest import RestClient
from tinker_actors.blocking.sampling import SamplingClient
from tinker_actors.blocking.service import ServiceClient
from tinker_actors.config import Config
from tinker_actors.metrics import Metrics
from tinker_actors.ports import Transport
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.sessions import SessionEnd, end_for

__all__ = ["BlockingMetrics", "BlockingRuntime", "blocking_runtime"]

P = ParamSpec("P")


@final
class BlockingMetrics(Handle[Metrics]):
    """The metrics of a runtime, for any thread."""

    add = answered(Metrics.add)
    set = answered(Metrics.set)
    observe = answered(Metrics.observe)
    counters = answered(Metrics.counters)
    snapshot = answered(Metrics.snapshot)
    reset = answered(Metrics.reset)
    prometheus = answered(Metrics.prometheus)


@final
class BlockingRuntime(Handle[Runtime]):
    """The way in. Made by ``blocking_runtime``; everything in it ends with its block, or with ``close()``."""

    create_service_client = blocking(Runtime.create_service_client, ServiceClient)
    create_service_client_async = at_once(Runtime.create_service_client_async, ServiceClient)
    create_rest_client = blocking(Runtime.create_rest_client, RestClient)
    create_rest_client_async = at_once(Runtime.create_rest_client_async, RestClient)
    create_sampling_client_from_handle = blocking(Runtime.create_sampling_client_from_handle, SamplingClient)
    create_sampling_client_from_handle_async = at_once(
        Runtime.create_sampling_client_from_handle_async, SamplingClient
    )
    job = answered(Runtime.job, BlockingJobBlock)
    renew_api_key = answered(Runtime.renew_api_key)
    pending = answered(Runtime.pending)
    counters = answered(Runtime.counters)
    usage = answered(Runtime.usage)
    cost = answered(Runtime.cost)
    tree = answered(Runtime.tree)
    get_telemetry = answered(Runtime.get_telemetry)
    dump = answered(Runtime.dump)

    @property
    def config(self) -> Config:
        """The configuration that it works by; printing it shows no secret."""
        return self._read("config", lambda inner: inner.config)

    @property
    def metrics(self) -> BlockingMetrics:
        """Counters, gauges and histograms of this runtime, to read or to add to; docs/metrics.md lists its own."""
        return BlockingMetrics(self._engine, self._read("metrics", lambda inner: inner.metrics))

    @property
    def recovery(self) -> BlockingRecovery:
        """Watches runs of other programs, and recovers what its server has lost into new clients."""
        return BlockingRecovery(self._engine, self._read("recovery", lambda inner: inner.recovery))

    def close(self, end: SessionEnd | None = None) -> None:
        """Stop everything in order, clients first; finish the sessions at the server, as ``end`` or as a success.

        Returns when nothing is left: no thread, no connection. ^C meanwhile leaves at once. Closing again does
        nothing. Raises what had ended the runtime by itself, if anything did.
        """
        self._engine.close(end if end is not None else SessionEnd())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it: sessions end as a success, or as errored or interrupted by what left the block."""
        self._engine.close(end_for(error))


def _fronted(open_: Callable[P, AbstractAsyncContextManager[Runtime]]) -> Callable[P, BlockingRuntime]:
    def blocking_runtime(*args: P.args, **kwargs: P.kwargs) -> BlockingRuntime:
        """Open a runtime in a thread of its own, for code that is not written for trio.

            with blocking_runtime(base_url=..., api_key=...) as runtime:
                service = runtime.create_service_client()

        It takes what ``open_runtime`` takes, and raises the same. It works in scripts and notebooks, from any number
        of threads, and in asyncio programs, and leaves their signals alone. A program that ends without leaving the
        block closes the runtime first. A ``transport`` is closed with it: nobody else could in that thread.
        """
        engine = Engine(
            lambda: _with_its_transport(open_(*args, **kwargs), cast("Transport | None", kwargs.get("transport")))
        )
        runtime = engine.open()
        engine.ask("blocking_runtime", lambda: runtime.recovery.show_clients_as(shown(engine)))
        return BlockingRuntime(engine, runtime)

    blocking_runtime.__wrapped__ = open_  # type: ignore[attr-defined]  # its parameters, for help() and inspect
    return blocking_runtime


@asynccontextmanager
async def _with_its_transport(
    opened: AbstractAsyncContextManager[Runtime], transport: Transport | None
) -> AsyncGenerator[Runtime]:
    async with AsyncExitStack() as after, opened as runtime:
        if transport is not None:
            after.push_async_callback(transport.aclose)
        yield runtime


blocking_runtime = _fronted(open_runtime)
