"""Configuration of a client: option > application and file > environment > default, checked when it is made."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack

import msgspec

from tinker_actors.config.fields import CHECKS, check
from tinker_actors.config.proxy import Proxy
from tinker_actors.config.recovery import RecoveryPolicy
from tinker_actors.config.retry import Backoff, RetryConfig
from tinker_actors.config.secret import Pairs, Secret
from tinker_actors.config.sources import Sources
from tinker_actors.config.stored import stored_key
from tinker_actors.errors import CredentialError
from tinker_actors.server_class import ServerClass

__all__ = ["DEFAULT_BASE_URL", "Config", "ConfigOptions", "access_headers", "require_key"]

DEFAULT_BASE_URL = "https://tinker.thinkingmachines.dev/services/tinker-prod"
_NO_KEY = (
    "Set TINKER_API_KEY or pass api_key=, set TINKER_CREDENTIAL_CMD to a command that prints a key, "
    "or store a key in ~/.tinker/credentials.json; keys start with 'tml-'"
)


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What a client needs to know to talk to a server. Get one from ``Config.load``.

    All times are in seconds. ``timeout`` bounds one attempt and ``poll_timeout`` one poll, ``outage_bound`` the time
    without any usable answer after which everything that waits gets one error, ``start_bound`` the same for the first
    contact with a server. ``max_retries`` bounds the repeats of one request besides (None: only time does), ``retry``
    says how long to wait between them, ``poll_backoff`` how long between polls. ``max_pending`` and
    ``max_pending_bytes`` bound what one model may have accepted and not finished; ``pool_size`` times ``pool_count``
    is the number of connections for samples. ``recovery`` says how a lost session or model is made good; with None
    the loss is an error. ``server_class`` says what the server does with a training request that comes twice; None
    has that found out.

    The credential is ``api_key``, or what ``credential_cmd`` prints. Printing a Config shows no secret, and it can't
    be pickled. ``default_headers`` and ``default_query`` go with every request. ``allow_plain_http`` lets the key
    cross the network unencrypted to a host that is not this machine. ``http_client`` is a Transport of the user's,
    or "module:name" of one. ``feature_gates`` are kept for programs that look at them; nothing here depends on them.

    ``extra_loss_fns`` are losses of this server that the protocol doesn't document, or whose inputs differ there:
    what they take only the server says. ``tokenizers`` are folders, or files tokenizer.json, of this machine by the
    names of the models that they are for: nobody else is asked for the tokenizer of such a model.

    ``project_id`` is the project that sessions belong to. ``dump_headers`` logs the headers of each request, secrets
    hidden, at level info instead of debug. ``proxy`` carries all requests, unless they have a Transport of the
    user's; ``proxy_headers`` go to it alone, in place of the login in its URL. ``otel_propagate`` makes spans of
    OpenTelemetry's for operations and samples, and sends the trace context of the current one along.
    ``telemetry_enabled`` says whether the server is told of errors and sessions; docs/telemetry.md tells of both.
    ``hf_token``, or the content of ``hf_token_path`` (by default the file
    "token" below ``hf_home``), is shown to the Hugging Face hub when a tokenizer is loaded from there; where
    the hub's files are kept is up to its own library, which reads the variable HF_HOME.
    """

    base_url: str = DEFAULT_BASE_URL
    api_key: Secret | None = None
    credential_cmd: Secret | None = None
    cf_access_client_id: str | None = None
    cf_access_client_secret: Secret | None = None
    project_id: str | None = None
    tags: tuple[str, ...] = ()
    user_metadata: Mapping[str, str] = {}
    feature_gates: tuple[str, ...] = ("async_sampling",)
    extra_loss_fns: tuple[str, ...] = ()
    tokenizers: Mapping[str, str] = {}
    timeout: float = 60.0
    poll_timeout: float = 45.0
    outage_bound: float = 300.0
    start_bound: float = 20.0
    heartbeat_interval: float = 10.0
    max_retries: int | None = None
    retry: RetryConfig = RetryConfig()
    poll_backoff: Backoff | None = None
    recovery: RecoveryPolicy | None = RecoveryPolicy()
    server_class: ServerClass | None = None
    max_pending: int = 1024
    max_pending_bytes: int = 1_000_000_000
    pool_size: int | None = None
    pool_count: int | None = None
    default_headers: Pairs = Pairs()
    default_query: Pairs = Pairs()
    dump_headers: bool = False
    allow_plain_http: bool = False
    proxy: Proxy | None = None
    proxy_headers: Pairs = Pairs()
    http_client: Any = None
    telemetry_enabled: bool = True
    otel_propagate: bool = False
    log_level: Literal["debug", "info", "warn", "error"] | None = None
    hf_token: Secret | None = None
    hf_home: str | None = None
    hf_token_path: str | None = None

    def __post_init__(self) -> None:
        for name in CHECKS:
            msgspec.structs.force_setattr(self, name, check(name, getattr(self, name)))
        if self.api_key is None and self.credential_cmd is None:
            raise CredentialError("api_key", "is missing", _NO_KEY)
        if (self.cf_access_client_id is None) != (self.cf_access_client_secret is None):
            missing = "cf_access_client_id" if self.cf_access_client_id is None else "cf_access_client_secret"
            raise CredentialError(missing, "is missing, and the other half is given", "Give both of them or none")
        if self.proxy is not None and len(self.proxy_headers):
            proxy = msgspec.structs.replace(self.proxy, headers=self.proxy_headers)
            msgspec.structs.force_setattr(self, "proxy", proxy)

    @classmethod
    def load(
        cls,
        *,
        file: str | Path | None = None,
        app: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        parity: str | None = None,
        **options: Unpack[ConfigOptions],
    ) -> Config:
        """Each field from the first that has it: ``options``, then ``app`` (the settings of the program around), then
        ``file`` (TOML), then the environment, then the default. An option that is None counts as not given.

        ``parity`` "python" gives ``timeout`` and ``max_retries`` the defaults of the official SDK (60 s, 10), "beam"
        those of the Elixir client (120 s, 2); without it only time bounds the retries. Without any key the default
        one of ~/.tinker/credentials.json is used.

        Raises CredentialError for a missing or malformed credential and InvalidInput for anything else, each with the
        option, variable or line of the file that it came from.
        """
        env = os.environ if environ is None else environ
        sources = Sources(options, app, file, env)
        values = sources.values()
        for name, value in sources.parity(parity).items():
            values.setdefault(name, value)
        if "api_key" not in values and "credential_cmd" not in values:
            key = stored_key(env)
            if key is None:
                raise CredentialError("api_key", "is missing", _NO_KEY)
            values["api_key"] = key
        return cls(**values)


def require_key(config: Config) -> Secret:
    """The key of a Config for those who need one at once; CredentialError when it only has a command."""
    if config.api_key is None:
        raise CredentialError("api_key", "is missing, and a credential command needs a runtime", _NO_KEY)
    return config.api_key


def access_headers(config: Config) -> tuple[tuple[str, str], ...]:
    """The headers of Cloudflare Access, where the configuration has both."""
    secret = config.cf_access_client_secret
    if config.cf_access_client_id is None or secret is None:
        return ()
    return (
        ("cf-access-client-id", config.cf_access_client_id),
        ("cf-access-client-secret", secret.reveal()),
    )


class ConfigOptions(TypedDict, total=False):
    """The options of ``Config.load``: a field of Config each, also in the forms that a file would hold it in."""

    base_url: str | None
    api_key: str | Secret | None
    credential_cmd: str | Secret | None
    cf_access_client_id: str | None
    cf_access_client_secret: str | Secret | None
    project_id: str | None
    tags: tuple[str, ...] | list[str] | None
    user_metadata: Mapping[str, str] | None
    feature_gates: tuple[str, ...] | list[str] | None
    extra_loss_fns: tuple[str, ...] | list[str] | None
    tokenizers: Mapping[str, str | Path] | None
    timeout: float | None
    poll_timeout: float | None
    outage_bound: float | None
    start_bound: float | None
    heartbeat_interval: float | None
    max_retries: int | None
    retry: RetryConfig | None
    poll_backoff: Backoff | str | bool | tuple[str, float, float] | None
    recovery: RecoveryPolicy | Mapping[str, Any] | bool | None
    server_class: ServerClass | str | None
    max_pending: int | None
    max_pending_bytes: int | None
    pool_size: int | None
    pool_count: int | None
    default_headers: Mapping[str, str | float | None] | None
    default_query: Mapping[str, str | float | None] | None
    dump_headers: bool | None
    allow_plain_http: bool | None
    proxy: Proxy | str | tuple[str, str, int] | None
    proxy_headers: Mapping[str, str] | list[tuple[str, str]] | None
    http_client: Any
    telemetry_enabled: bool | None
    otel_propagate: bool | None
    log_level: str | None
    hf_token: str | Secret | None
    hf_home: str | None
    hf_token_path: str | None
