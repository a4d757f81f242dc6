"""What one local server offers and where its limits are."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from tinker_actors.errors import InvalidInput
from tinker_actors.local.setting_kinds import check_kinds
from tinker_actors.server_class import ServerClass

__all__ = ["DEFAULT_BASE_MODEL", "ServerSettings"]

DEFAULT_BASE_MODEL = "tinker-actors/base-s"
_OWNER = re.compile(r"(?!key-|nobody\Z)[A-Za-z0-9_.@-]{1,64}")
_OWN = "tinker-actors/"
_ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:@/-]{0,95}")
_LONGEST_HOLD = 30.0  # clients give up on one poll after 45 s


class ServerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of one server. Times are in seconds, sizes in bytes. Raises InvalidInput.

    ``base_models`` are offered besides ``base_model``, and so are ``aliases``: models of any name, each with a folder
    that holds a tokenizer.json, for programs that are written for that model. Such a model is a fresh tiny one, with
    the vocabulary of that tokenizer. ``directory`` keeps checkpoints, metadata and the log of
    applied operations; None keeps all of them in memory, and they end with the service.

    Each key of ``api_keys`` is an owner of its own, who sees nothing of the others. ``owners`` names owners, each
    with the keys that are theirs. With neither the server takes any key that starts with "tml-", and each is an
    owner. Printing the settings never shows a key.

    ``fwdbwd_max_chunk_len`` (datums), ``fwdbwd_max_chunk_bytes_count`` and ``parallel_fwdbwd_chunks`` are served
    to clients, which cut their batches accordingly. ``poll_hold`` is how long a poll waits for its result before
    it is answered "try again". A session that is silent for ``session_expiry`` ends; a result is kept for
    ``result_retention`` after it was there. Results above ``metadata_only_above`` are announced by their size
    first, to clients that ask so. A request of whose body no byte comes for ``body_timeout`` is answered 408.

    One owner may have ``max_sessions_per_owner`` sessions and ``max_models_per_owner`` models at a time, one session
    ``max_models_per_session`` models: one more is refused with 403. A training request may hold
    ``max_tokens_per_request`` tokens in all, each datum as many as the base model's context.

    ``pjwt_auth_enabled`` asks clients to exchange their key for a token, which is good for ``jwt_lifetime``; keys are
    taken all the same.

    ``custom_loss_server_side`` asks clients to upload custom losses, which else they compute themselves.
    ``sample_use_retrieve_futures`` lets clients poll for all of a sampler's results at once, and
    ``sample_join_sampling_session`` lets them ask for their number among its clients; ``sample_cancel_enabled`` lets
    them say that nobody waits for a sample any more.

    ``max_models_in_memory`` adapters with their optimizers, and ``max_snapshots_in_memory`` weights of samplers, are
    kept in memory; those used least recently are in files meanwhile, below ``directory`` or in the system's folder
    for temporary files, and come back to the bit.

    Models and samplers take turns, owner by owner: a turn is an operation, or a batch of samples. One owner may take
    ``max_turns_per_second``, None for any number; what waits for that is told so. Beyond ``max_queued_samples`` in
    all, and ``max_queued_samples_per_owner``, a sample is answered 429.

    At most ``max_streams`` samples are streamed at a time.

    Samples that are recorded for stable_reinforce are kept for their session, up to ``max_recorded_tokens`` in all;
    then the oldest go.

    What clients report through /telemetry is kept in memory, up to ``max_reported_bytes`` in all; then the oldest go.

    ``load_first_only`` refuses load_weights to a model that has had another request, as the hosted service does.

    ``server_class`` is a test switch: "ordered" refuses with 409 every seq_id but the next one of a model, "none"
    runs whatever comes as it comes, a repeated one again, as some servers do. Clients are told the class, unless
    ``tells_class`` is False.
    """

    base_model: str = DEFAULT_BASE_MODEL
    base_models: tuple[str, ...] = ()
    aliases: Mapping[str, Path] = {}
    directory: Path | None = None
    max_rank: int = 128
    api_keys: tuple[str, ...] | None = None
    owners: Mapping[str, tuple[str, ...]] = {}
    max_body_bytes: int = 64 * 1024 * 1024
    body_timeout: float = 60.0
    max_queued_samples: int = 20_000
    max_queued_samples_per_owner: int = 10_000
    max_turns_per_second: float | None = None
    max_streams: int = 64
    max_sessions_per_owner: int = 10_000
    max_models_per_session: int = 1_000
    max_models_per_owner: int = 10_000
    max_models_in_memory: int = 64
    max_snapshots_in_memory: int = 64
    max_tokens_per_request: int = 2_000_000
    max_recorded_tokens: int = 8_000_000
    max_reported_bytes: int = 16 * 1024 * 1024
    parallel_fwdbwd_chunks: bool = True
    proto_compress_fwdbwd: bool = False
    fwdbwd_max_chunk_len: int = 1024
    fwdbwd_max_chunk_bytes_count: int = 5_000_000
    sample_max_concurrent_requests: int = 2000
    poll_hold: float = 25.0
    session_expiry: float = 600.0
    result_retention: float = 3600.0
    metadata_only_above: int | None = None
    pjwt_auth_enabled: bool = False
    jwt_lifetime: float = 3600.0
    custom_loss_server_side: bool = False
    sample_use_retrieve_futures: bool = False
    sample_join_sampling_session: bool = False
    sample_cancel_enabled: bool = True
    load_first_only: bool = False
    server_class: ServerClass = ServerClass.DEDUP
    tells_class: bool = True

    def __post_init__(self) -> None:
        check_kinds(self)
        if not 0.0 < self.poll_hold <= _LONGEST_HOLD:
            raise InvalidInput("poll_hold", f"{self.poll_hold} is out of range", "Use seconds in (0, 30]")
        for name in (
            "max_rank",
            "max_body_bytes",
            "body_timeout",
            "max_queued_samples",
            "max_queued_samples_per_owner",
            "max_streams",
            "max_sessions_per_owner",
            "max_models_per_session",
            "max_models_per_owner",
            "max_models_in_memory",
            "max_snapshots_in_memory",
            "max_tokens_per_request",
            "max_reported_bytes",
            "max_recorded_tokens",
            "fwdbwd_max_chunk_len",
            "fwdbwd_max_chunk_bytes_count",
            "sample_max_concurrent_requests",
            "session_expiry",
            "result_retention",
            "jwt_lifetime",
        ):
            value: float = getattr(self, name)
            if not value > 0:
                raise InvalidInput(name, f"{value} is not positive", "Use a positive number")
        if self.max_turns_per_second is not None and not self.max_turns_per_second > 0:
            problem = f"{self.max_turns_per_second} is not positive"
            raise InvalidInput("max_turns_per_second", problem, "Use a positive number, or None for no bound")
        if self.api_keys is not None and not (self.api_keys and all(self.api_keys)):
            problem = "holds an empty key" if self.api_keys else "is empty, so that nobody could be served"
            raise InvalidInput("api_keys", problem, "Give the keys, or None to take any that starts with tml-")
        self._check_owners()
        if not all((self.base_model, *self.base_models)):
            raise InvalidInput("base_models", "holds an empty name", "Name models such as tinker-actors/base-s")
        for name in self.aliases:
            if name.startswith(_OWN) or name in (self.base_model, *self.base_models):
                raise InvalidInput("aliases", f"{name!r} is a model of its own", "Give the alias another name")
            if not _ALIAS.fullmatch(name):
                cure = "Use up to 96 letters, digits and _ . : @ / -, as in Qwen/Qwen3-8B"
                raise InvalidInput("aliases", f"{name[:96]!r} can't be a model's name", cure)

    def _check_owners(self) -> None:
        holders = dict.fromkeys(self.api_keys or (), "api_keys")
        for name, keys in self.owners.items():
            if not _OWNER.fullmatch(name):
                cure = "Use up to 64 letters, digits and _ . @ -, not beginning with 'key-', and not 'nobody'"
                raise InvalidInput("owners", f"{name[:64]!r} can't be an owner's name", cure)
            if not keys or not all(keys):
                raise InvalidInput("owners", f"{name!r} has no key, or an empty one", "Give each owner its keys")
            for key in keys:
                holder = f"owners[{name!r}]"
                first = holders.setdefault(key, holder)
                if first != holder:
                    raise InvalidInput(holder, f"holds a key that {first} holds, too", "Give each key one owner")

    def __repr__(self) -> str:
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        if self.api_keys is not None:
            values["api_keys"] = f"<{len(self.api_keys)} hidden>"
        values["owners"] = {name: f"<{len(keys)} hidden>" for name, keys in self.owners.items()}
        return f"ServerSettings({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    @property
    def takes_any_key(self) -> bool:
        """Whether a key needs only to look like one."""
        return self.api_keys is None and not self.owners

    @property
    def offered(self) -> tuple[str, ...]:
        """The names of all base models, each once."""
        return tuple(dict.fromkeys((self.base_model, *self.base_models, *self.aliases)))
