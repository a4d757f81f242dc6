"""SessionLimits: how much of what may be under way at once in one session, as its server asks."""

from __future__ import annotations

from typing import final

import msgspec

from tinker_actors.flow.bytes_semaphore import BytesSemaphore, BytesStatistics
from tinker_actors.flow.dispatch import DispatchStatistics, SamplingDispatch
from tinker_actors.flow.rate_limit import RateLimiter
from tinker_actors.types import ClientConfig

__all__ = ["LimitsStatistics", "SessionLimits"]


class LimitsStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The gates of samples, the bytes of training requests being sent, and those of results being fetched."""

    sampling: DispatchStatistics
    training: BytesStatistics
    results: BytesStatistics


@final
class SessionLimits:
    """The gates of one session (WIRE 7.1), as large as ``server`` says; ``limiter`` is shared by all with the key."""

    def __init__(self, server: ClientConfig, limiter: RateLimiter) -> None:
        # A server that allows no sample at all would be waited for in vain, and one that names a negative number
        # means none, as far as can be told.
        in_flight = max(1, server.sample_max_concurrent_requests)
        self.sampling = SamplingDispatch(
            limiter, in_flight=in_flight, size=max(0, server.sample_dispatch_bytes_semaphore_size)
        )
        self.training = BytesSemaphore(max(0, server.fwdbwd_dispatch_bytes_semaphore_size))
        self.results = BytesSemaphore(max(0, server.inflight_response_bytes_semaphore_size))

    def statistics(self) -> LimitsStatistics:
        """What is held and who waits, gate by gate."""
        return LimitsStatistics(
            sampling=self.sampling.statistics(),
            training=self.training.statistics(),
            results=self.results.statistics(),
        )
