"""The Poller: one promise, asked for until it has a result."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar, final

import trio

from tinker_actors.config import Backoff
from tinker_actors.errors import APIError, APIResponseError, APITimeoutError, RequestFailedError
from tinker_actors.flow.bytes_semaphore import BytesSemaphore
from tinker_actors.flow.patience import Patience
from tinker_actors.flow.pending import PendingEntry
from tinker_actors.flow.reaction import Reaction, while_polling
from tinker_actors.flow.retry import RetryHandler
from tinker_actors.metrics import Metrics
from tinker_actors.ports import Points
from tinker_actors.ports.spans import NO_SPAN, Span
from tinker_actors.types import FailedResult, MetadataOnly, QueueState, TryAgain
from tinker_actors.wire.api import Api
from tinker_actors.wire.endpoints.futures import retrieve_future

__all__ = ["Poller"]

T = TypeVar("T")

# A server that answers "not yet" at once would be asked in a tight loop without a floor between two polls.
_FLOOR = 0.1


@final
class Poller:
    """Asks for results, with the patience that ``handler`` gives.

    ``poll_timeout`` bounds one poll, in seconds; servers hold it open for up to 30 s. A result that the server
    withholds for its size is fetched when ``results`` has room for its bytes. ``backoff`` gives other waits after a
    poll that failed than the handler's.
    """

    def __init__(
        self,
        api: Api,
        handler: RetryHandler,
        metrics: Metrics,
        points: Points,
        *,
        results: BytesSemaphore,
        poll_timeout: float,
        backoff: Backoff | None = None,
    ) -> None:
        self._api = api
        self._handler = handler
        self._metrics = metrics
        self._points = points
        self._results = results
        self._poll_timeout = poll_timeout
        self._backoff = backoff

    def patience(self) -> Patience:
        """Fresh patience for one logical request."""
        return self._handler.patience()

    async def result(
        self,
        request_id: str,
        result_type: type[T],
        entry: PendingEntry,
        *,
        request_type: str,
        point: str,
        on_queue_state: Callable[[QueueState, str | None], None] | None = None,
        react: Callable[[APIError], Reaction] = while_polling,
        roundtrip: float | None = None,
        span: Span = NO_SPAN,
    ) -> T:
        """The result of the promise ``request_id``.

        Raises RequestFailedError when the server says that the request failed, and OutOfPatience when there
        is no use in asking further. ``entry`` shows what is being waited for; ``point`` names the fault point
        that is reached before each poll; ``react`` says what each error means, and ``roundtrip`` how many seconds the
        promise took, which the server is told once. ``span`` is the operation's, in which the polls take place.
        """
        patience = self._handler.patience(self._backoff)
        iteration = 0
        withheld = False

        async def attempt() -> T | TryAgain | FailedResult | MetadataOnly:
            nonlocal iteration
            self._points.reach(point, entry.name)
            self._metrics.add("polls")
            asked = iteration
            iteration += 1
            began = trio.current_time()
            try:
                answer = await retrieve_future(
                    self._api,
                    request_id,
                    result_type,
                    iteration=asked,
                    request_type=request_type,
                    timeout=self._poll_timeout,
                    allow_metadata_only=not withheld,
                    roundtrip=roundtrip if asked == 0 else None,
                    decoding=partial(span.step, "decode"),
                )
            except APITimeoutError as error:
                # Some servers hold a poll for longer than any client waits. One that has answered others meanwhile
                # is well and at work: no outage.
                if not error.sent or self._api.answered_at <= began:
                    raise
                return TryAgain(request_id=request_id, queue_state_reason="it holds the poll and answers others")
            if withheld and isinstance(answer, MetadataOnly):
                problem = f"the server withheld the result of {request_id} although the whole of it was asked for"
                raise APIResponseError(problem)
            return answer

        held = 0
        try:
            while True:
                asked_at = trio.current_time()
                with span.current():
                    answer = await patience.persist(attempt, react, entry.explain)
                if isinstance(answer, TryAgain):
                    _show(answer, entry)
                    if on_queue_state is not None:
                        on_queue_state(answer.queue_state, answer.queue_state_reason)
                    await trio.sleep(max(0.0, asked_at + _FLOOR - trio.current_time()))
                elif isinstance(answer, MetadataOnly):
                    # It is there; from now on the whole of it is asked for (WIRE 3.4).
                    size = answer.response_payload_size
                    entry.explain(f"its result of {size:,} bytes waits for others to be fetched")
                    await self._results.acquire(size)
                    held, withheld = size, True
                    entry.explain(f"its result of {size:,} bytes is being fetched")
                elif isinstance(answer, FailedResult):
                    if on_queue_state is not None:
                        on_queue_state(QueueState.ACTIVE, None)
                    raise RequestFailedError(
                        answer.error,
                        category=answer.category,
                        request_id=request_id,
                        operation=f"{entry.name} {entry.kind}",
                    )
                else:
                    if on_queue_state is not None:
                        on_queue_state(QueueState.ACTIVE, None)
                    return answer
        finally:
            self._results.release(held)


def _show(answer: TryAgain, entry: PendingEntry) -> None:
    state, reason = answer.queue_state, answer.queue_state_reason
    if state is QueueState.ACTIVE:
        entry.enter("promised", "the server works on it", expected=True)
    elif state is QueueState.UNKNOWN:
        entry.enter("promised", f"the server has it queued{f': {reason}' if reason else ''}", expected=True)
    else:
        entry.enter(f"server {state}", reason or "it gives no reason")
