"""The runtime for code that is not written for trio: the same handles, with methods that block or return futures."""

from tinker_actors.blocking.checkpoints import BlockingCheckpoints
from tinker_actors.blocking.future import BlockingFuture
from tinker_actors.blocking.jobs import BlockingJob
from tinker_actors.blocking.recovery import BlockingRecovery
from tinker_actors.blocking.rest import RestClient
from tinker_actors.blocking.runtime import BlockingMetrics, BlockingRuntime, blocking_runtime
from tinker_actors.blocking.sampling import SamplingClient
from tinker_actors.blocking.service import ServiceClient
from tinker_actors.blocking.streaming import BlockingStream
from tinker_actors.blocking.telemetry import BlockingTelemetry
from tinker_actors.blocking.training import TrainingClient

__all__ = [
    "BlockingCheckpoints",
    "BlockingFuture",
    "BlockingJob",
    "BlockingMetrics",
    "BlockingRecovery",
    "BlockingRuntime",
    "BlockingStream",
    "BlockingTelemetry",
    "RestClient",
    "SamplingClient",
    "ServiceClient",
    "TrainingClient",
    "blocking_runtime",
]
