"""A supervised actor runtime for fine-tuning language models through the Tinker API.

Every public name is loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tinker_actors.shadowing import require_own_supervision
from tinker_actors.version import __version__

if TYPE_CHECKING:
    from tinker_actors.archives import (
        ArchiveBounds,
    )
    from tinker_actors.blocking import (
        blocking_runtime,
    )
    from tinker_actors.clients import (
        RestClient,
        SamplingClient,
        ServiceClient,
        TrainingClient,
    )
    from tinker_actors.clients.training.events import (
        ModelRebuilt,
        ReplayDiffers,
    )
    from tinker_actors.config import (
        Config,
        RecoveryPolicy,
        RetryConfig,
    )
    from tinker_actors.downloads import (
        DownloadedCheckpoint,
        DownloadProgress,
    )
    from tinker_actors.errors import (
        APIConnectionError,
        APIError,
        APIResponseError,
        APIStatusError,
        APITimeoutError,
        ArchiveError,
        AuthenticationError,
        BadRequestError,
        BillingError,
        CircuitOpen,
        ClosedError,
        ConflictError,
        CredentialError,
        CredentialUnavailable,
        DecodeError,
        DownloadError,
        GoneError,
        GradientUnavailable,
        InternalServerError,
        InvalidInput,
        LaneStopped,
        LossTermError,
        LossTermTimeout,
        ModelLost,
        NotFoundError,
        OperationCancelled,
        OperationError,
        OutageError,
        PayloadTooLargeError,
        PermissionDeniedError,
        RateLimitError,
        RequestFailedError,
        RequestTimeoutError,
        ServiceUnavailableError,
        StaleSampler,
        TinkerError,
        UnknownVerdict,
        UnprocessableEntityError,
        UnsupportedMediaTypeError,
        WaitTimeout,
        WrongPlace,
    )
    from tinker_actors.flow.breaker import (
        BreakerState,
        BreakerStatistics,
        CircuitBreaker,
    )
    from tinker_actors.flow.breakers import (
        CircuitBreakers,
    )
    from tinker_actors.flow.pending import (
        Pending,
    )
    from tinker_actors.flow.queue_state import (
        QueueStateChange,
        QueueSubscription,
    )
    from tinker_actors.flow.retry import (
        Retry,
        RetryEvent,
        RetryHandler,
    )
    from tinker_actors.ledger import (
        Future,
        as_completed,
        first,
        gather,
    )
    from tinker_actors.local import (
        ServerSettings,
    )
    from tinker_actors.metrics import (
        HistogramSnapshot,
        Metrics,
        MetricsSnapshot,
        ModelUsage,
        Price,
    )
    from tinker_actors.regularizers import (
        L1,
        L2,
        Consistency,
        ElasticNet,
        Entropy,
        GradientPenalty,
        KLDivergence,
        Orthogonality,
        RegularizerPipeline,
        with_regularizers,
    )
    from tinker_actors.runtime import (
        Runtime,
        open_runtime,
    )
    from tinker_actors.sessions import (
        SessionEnd,
        SessionLost,
        SessionRenewed,
        SessionState,
    )
    from tinker_actors.telemetry import (
        RuntimeTelemetry,
        Telemetry,
        TelemetryProvider,
        TelemetryStatus,
        capture_exceptions,
    )
    from tinker_actors.testing.local_server import (
        LocalServer,
        local_server,
        local_server_thread,
    )
    from tinker_actors.types import (
        AdamParams,
        CustomLossOutput,
        Datum,
        EncodedTextChunk,
        ForwardBackwardOutput,
        GetInfoResponse,
        GetServerCapabilitiesResponse,
        LoadWeightsResponse,
        LoraConfig,
        ModelInput,
        OptimStepResponse,
        QueueState,
        RegularizerSpec,
        SampledSequence,
        SampleResponse,
        SamplingParams,
        SaveWeightsForSamplerResponse,
        SaveWeightsResponse,
        SupportedModel,
        TensorData,
        TinkerPath,
    )

__all__ = [
    "__version__",
    "AdamParams",
    "APIConnectionError",
    "APIError",
    "APIResponseError",
    "APIStatusError",
    "APITimeoutError",
    "ArchiveBounds",
    "ArchiveError",
    "as_completed",
    "AuthenticationError",
    "BadRequestError",
    "BillingError",
    "blocking_runtime",
    "BreakerState",
    "BreakerStatistics",
    "capture_exceptions",
    "CircuitBreaker",
    "CircuitBreakers",
    "CircuitOpen",
    "ClosedError",
    "Config",
    "ConflictError",
    "Consistency",
    "CredentialError",
    "CredentialUnavailable",
    "CustomLossOutput",
    "Datum",
    "DecodeError",
    "DownloadedCheckpoint",
    "DownloadError",
    "DownloadProgress",
    "ElasticNet",
    "EncodedTextChunk",
    "Entropy",
    "first",
    "ForwardBackwardOutput",
    "Future",
    "gather",
    "GetInfoResponse",
    "GetServerCapabilitiesResponse",
    "GoneError",
    "GradientPenalty",
    "GradientUnavailable",
    "HistogramSnapshot",
    "InternalServerError",
    "InvalidInput",
    "KLDivergence",
    "L1",
    "L2",
    "LaneStopped",
    "LoadWeightsResponse",
    "local_server",
    "local_server_thread",
    "LocalServer",
    "LoraConfig",
    "LossTermError",
    "LossTermTimeout",
    "Metrics",
    "MetricsSnapshot",
    "ModelInput",
    "ModelLost",
    "ModelRebuilt",
    "ModelUsage",
    "NotFoundError",
    "open_runtime",
    "OperationCancelled",
    "OperationError",
    "OptimStepResponse",
    "Orthogonality",
    "OutageError",
    "PayloadTooLargeError",
    "Pending",
    "PermissionDeniedError",
    "Price",
    "QueueState",
    "QueueStateChange",
    "QueueSubscription",
    "RateLimitError",
    "RecoveryPolicy",
    "RegularizerPipeline",
    "RegularizerSpec",
    "ReplayDiffers",
    "RequestFailedError",
    "RequestTimeoutError",
    "RestClient",
    "Retry",
    "RetryConfig",
    "RetryEvent",
    "RetryHandler",
    "Runtime",
    "RuntimeTelemetry",
    "SampledSequence",
    "SampleResponse",
    "SamplingClient",
    "SamplingParams",
    "SaveWeightsForSamplerResponse",
    "SaveWeightsResponse",
    "ServerSettings",
    "ServiceClient",
    "ServiceUnavailableError",
    "SessionEnd",
    "SessionLost",
    "SessionRenewed",
    "SessionState",
    "StaleSampler",
    "SupportedModel",
    "Telemetry",
    "TelemetryProvider",
    "TelemetryStatus",
    "TensorData",
    "TinkerError",
    "TinkerPath",
    "TrainingClient",
    "UnknownVerdict",
    "UnprocessableEntityError",
    "UnsupportedMediaTypeError",
    "WaitTimeout",
    "with_regularizers",
    "WrongPlace",
]

_HOMES = {
    "tinker_actors.blocking": ("blocking_runtime",),
    "tinker_actors.clients": (
        "RestClient",
        "SamplingClient",
        "ServiceClient",
        "TrainingClient",
    ),
    "tinker_actors.clients.training.events": (
        "ModelRebuilt",
        "ReplayDiffers",
    ),
    "tinker_actors.config": (
        "Config",
        "RecoveryPolicy",
        "RetryConfig",
    ),
    "tinker_actors.archives": ("ArchiveBounds",),
    "tinker_actors.downloads": (
        "DownloadedCheckpoint",
        "DownloadProgress",
    ),
    "tinker_actors.errors": (
        "APIConnectionError",
        "APIError",
        "APIResponseError",
        "APIStatusError",
        "APITimeoutError",
        "ArchiveError",
        "AuthenticationError",
        "BadRequestError",
        "BillingError",
        "CircuitOpen",
        "ClosedError",
        "ConflictError",
        "CredentialError",
        "CredentialUnavailable",
        "DecodeError",
        "DownloadError",
        "GoneError",
        "GradientUnavailable",
        "InternalServerError",
        "InvalidInput",
        "LaneStopped",
        "LossTermError",
        "LossTermTimeout",
        "ModelLost",
        "NotFoundError",
        "OperationCancelled",
        "OperationError",
        "OutageError",
        "PayloadTooLargeError",
        "PermissionDeniedError",
        "RateLimitError",
        "RequestFailedError",
        "RequestTimeoutError",
        "ServiceUnavailableError",
        "StaleSampler",
        "TinkerError",
        "UnknownVerdict",
        "UnprocessableEntityError",
        "UnsupportedMediaTypeError",
        "WaitTimeout",
        "WrongPlace",
    ),
    "tinker_actors.flow.breaker": (
        "BreakerState",
        "BreakerStatistics",
        "CircuitBreaker",
    ),
    "tinker_actors.flow.breakers": ("CircuitBreakers",),
    "tinker_actors.flow.pending": ("Pending",),
    "tinker_actors.flow.queue_state": (
        "QueueStateChange",
        "QueueSubscription",
    ),
    "tinker_actors.flow.retry": (
        "Retry",
        "RetryEvent",
        "RetryHandler",
    ),
    "tinker_actors.ledger": (
        "as_completed",
        "first",
        "Future",
        "gather",
    ),
    "tinker_actors.local": ("ServerSettings",),
    "tinker_actors.metrics": (
        "HistogramSnapshot",
        "Metrics",
        "MetricsSnapshot",
        "ModelUsage",
        "Price",
    ),
    "tinker_actors.regularizers": (
        "Consistency",
        "ElasticNet",
        "Entropy",
        "GradientPenalty",
        "KLDivergence",
        "L1",
        "L2",
        "Orthogonality",
        "RegularizerPipeline",
        "with_regularizers",
    ),
    "tinker_actors.runtime": (
        "open_runtime",
        "Runtime",
    ),
    "tinker_actors.sessions": (
        "SessionEnd",
        "SessionLost",
        "SessionRenewed",
        "SessionState",
    ),
    "tinker_actors.testing.local_server": (
        "local_server",
        "local_server_thread",
        "LocalServer",
    ),
    "tinker_actors.telemetry": (
        "RuntimeTelemetry",
        "Telemetry",
        "TelemetryProvider",
        "TelemetryStatus",
        "capture_exceptions",
    ),
    "tinker_actors.types": (
        "AdamParams",
        "CustomLossOutput",
        "Datum",
        "EncodedTextChunk",
        "ForwardBackwardOutput",
        "GetInfoResponse",
        "GetServerCapabilitiesResponse",
        "LoadWeightsResponse",
        "LoraConfig",
        "ModelInput",
        "OptimStepResponse",
        "QueueState",
        "RegularizerSpec",
        "SampledSequence",
        "SampleResponse",
        "SamplingParams",
        "SaveWeightsForSamplerResponse",
        "SaveWeightsResponse",
        "SupportedModel",
        "TensorData",
        "TinkerPath",
    ),
}

require_own_supervision()


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(home), name)
            globals()[name] = value  # found at once the next time
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
