"""Configuration of a client, its secrets, and how it tries again."""

from tinker_actors.config.checkpoints import CheckpointPolicy, parse_checkpoints
from tinker_actors.config.config import DEFAULT_BASE_URL, Config, ConfigOptions, access_headers, require_key
from tinker_actors.config.proxy import Proxy
from tinker_actors.config.recovery import TRIGGERS, RecoveryPolicy, Trigger
from tinker_actors.config.retry import Backoff, PollBackoff, RetryConfig, parse_retry
from tinker_actors.config.secret import Pairs, Secret, parse_api_key

__all__ = [
    "access_headers",
    "Backoff",
    "CheckpointPolicy",
    "Config",
    "ConfigOptions",
    "DEFAULT_BASE_URL",
    "Pairs",
    "parse_api_key",
    "parse_checkpoints",
    "parse_retry",
    "PollBackoff",
    "Proxy",
    "RecoveryPolicy",
    "require_key",
    "RetryConfig",
    "Secret",
    "Trigger",
    "TRIGGERS",
]
