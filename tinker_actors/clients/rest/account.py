"""What the REST clients of one runtime share."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from typing import final

from supervision import SupervisorRef
from tinker_actors.config import Config
from tinker_actors.flow.home import Home
from tinker_actors.flow.patience import Patience
from tinker_actors.flow.pending import PendingTable
from tinker_actors.flow.retry import RetryHandler
from tinker_actors.ledger import Tasks
from tinker_actors.metrics import Metrics
from tinker_actors.ports import Offload
from tinker_actors.types import TinkerPath
from tinker_actors.wire.api import Api

__all__ = ["Account"]


@final
class Account:
    """A plain object: the Api, how patient its calls are, and the supervisor below which the clients are."""

    def __init__(
        self,
        supervisor: SupervisorRef,
        *,
        api: Api,
        config: Config,
        sdk_version: str,
        rng: random.Random,
        pending: PendingTable,
        tasks: Tasks,
        offload: Offload,
        metrics: Metrics,
        export: Callable[[TinkerPath], Awaitable[str]],
    ) -> None:
        self.supervisor = supervisor
        self.api = api
        self.config = config
        self.sdk_version = sdk_version
        self.pending = pending
        self.tasks = tasks
        self.offload = offload
        self.export = export
        """Makes external weights of a training checkpoint, in a session of its own, and returns their path."""
        self.home = Home()
        self.billing_bound = 0.0
        """Seconds for which a billing pause is waited out; what the server says, once it has."""
        self.random = rng
        self._metrics = metrics
        self._numbers = itertools.count()

    def next_name(self) -> str:
        """A name for a new client."""
        return f"rest-{next(self._numbers)}"

    def new_key(self) -> str:
        """An idempotency key, kept by one call for all its tries."""
        return f"tinker-actors-{self.random.getrandbits(128):032x}"

    def patience(self, bound: float | None = None) -> Patience:
        """The tries of one call: within ``bound`` seconds, or the configuration's outage bound."""
        config = self.config
        return RetryHandler(
            config.retry,
            self.random,
            outage_bound=config.outage_bound if bound is None else bound,
            billing_bound=self.billing_bound,
            max_retries=config.max_retries,
            on_retry=lambda _: self._metrics.add("retries"),
        ).patience()
