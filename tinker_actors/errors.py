"""Everything that tinker_actors raises on purpose.

    TinkerError
    |- InvalidInput (ValueError)         a value of the caller's; nothing was accepted or sent
    |   '- CredentialError               no API key, or one of the wrong form
    |- DecodeError (ValueError)          bytes that are not what they should be
    |   '- ArchiveError                  an archive that is damaged, or does what none may
    |- APIError                          a request did not get a usable answer
    |   |- APIConnectionError            no answer: refused, reset, cut off
    |   |   '- APITimeoutError (TimeoutError)
    |   |- APIStatusError                an answer with an error status
    |   |   |- BadRequestError 400, AuthenticationError 401, BillingError 402,
    |   |   |  PermissionDeniedError 403, NotFoundError 404, RequestTimeoutError 408, ConflictError 409,
    |   |   |  GoneError 410, PayloadTooLargeError 413, UnsupportedMediaTypeError 415,
    |   |   |  UnprocessableEntityError 422, RateLimitError 429
    |   |   |- CredentialUnavailable     an AuthenticationError: no credential to be had, nothing sent
    |   |   '- InternalServerError 5xx
    |   |       '- ServiceUnavailableError 503
    |   '- APIResponseError              an answer that can't be decoded
    |- RequestFailedError                the server ran the operation and says it failed
    |- OperationError                    an accepted operation that will not give its result
    |   |- OperationCancelled            cancelled by the user: before it was sent, or a call in a task
    |   |- ModelLost                     the server has lost the session, the model or a promise
    |   |- StaleSampler                  ephemeral weights that the server has lost and nobody can make again
    |   |- OutageError                   the outage bound passed without a usable answer
    |   |- UnknownVerdict                it can't be known whether the operation was applied
    |   |- LaneStopped                   an operation before it stopped the lane
    |   '- LedgerFull                    not accepted: no room to keep it for a rebuild
=======
    |   '- LaneStopped                   an operation before it stopped the lane
    |- RecoveryError                     a run that is not recovered
    |   |- RecoveryDisabled              the configuration has no RecoveryPolicy
    |   |- RecoveryPending               the run is being recovered already
    |   '- RecoveryFailed                every attempt has failed, or there is no use in another
    |- WaitTimeout (TimeoutError)        the wait ended; the operation goes on
    |- ClosedError                       the runtime, session or client was closed
    |- NotStreamed                       the server streams no samples
    |- CircuitOpen                       a circuit breaker refused a call; it was not run
    |- DiskError                         a file or folder can't be used
    |   '- DiskFull, DiskReadOnly, DiskMissing, DiskLocked, DiskDamaged, NotAFolder
    '- WrongPlace (RuntimeError)         a handle was used from another thread or another run of trio

Each says what failed, for which operation and request, what was tried, and what the user can do.
"""

from __future__ import annotations

from pathlib import Path

__all__ = [
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
    "DiskDamaged",
    "DiskError",
    "DiskFull",
    "DiskLocked",
    "DiskMissing",
    "DiskReadOnly",
    "GoneError",
    "InternalServerError",
    "InvalidInput",
    "JobChanged",
    "JobError",
    "JobInUse",
    "LaneStopped",
    "LedgerFull",
    "ModelLost",
    "NotAFolder",
    "NotFoundError",
    "NotStreamed",
    "OperationCancelled",
    "OperationError",
    "OutageError",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "RateLimitError",
    "RecoveryDisabled",
    "RecoveryError",
    "RecoveryFailed",
    "RecoveryPending",
    "RequestFailedError",
    "RequestTimeoutError",
    "ServiceUnavailableError",
    "StaleSampler",
    "status_error",
    "TinkerError",
    "UnknownVerdict",
    "UnprocessableEntityError",
    "UnsupportedMediaTypeError",
    "WaitTimeout",
    "WrongPlace",
]


class TinkerError(Exception):
    """The root of the tree: catching it catches everything that tinker_actors raises on purpose."""

    @property
    def fact(self) -> str:
        """What it says without what to do about it, for a text that gives advice of its own."""
        return str(self)


class InvalidInput(TinkerError, ValueError):
    """A value that can't be used. Nothing was accepted, sent or changed.

    ``field`` names the value, ``problem`` what is wrong with it, ``cure`` what to give instead. ``source`` says
    where a value of the configuration came from: an option, a variable of the environment, a file and its line.
    """

    source: str | None = None

    def __init__(self, field: str, problem: str, cure: str) -> None:
        super().__init__(field, problem, cure)
        self.field = field
        self.problem = problem
        self.cure = cure

    def __str__(self) -> str:
        where = f"{self.field} ({self.source})" if self.source else self.field
        return f"{where}: {self.problem}. {self.cure}"


class CredentialError(InvalidInput):
    """There is no API key, or it is not of a form that the service accepts. Never shows the key."""


class DecodeError(TinkerError, ValueError):
    """Bytes that are not a well-formed message, or that exceed a bound. Nothing of them was used."""


class ArchiveError(DecodeError):
    """An archive that is damaged, beyond its bounds, or names what it may not create. Nothing of it was kept."""


class APIError(TinkerError):
    """A request did not get a usable answer. ``request`` is its method and path."""

    request: str | None = None


class APIConnectionError(APIError):
    """No answer arrived. ``sent`` is False when it is certain that the server never saw the request."""

    def __init__(self, message: str, *, request: str | None = None, sent: bool = True) -> None:
        super().__init__(message)
        self.request = request
        self.sent = sent


class APITimeoutError(APIConnectionError, TimeoutError):
    """The answer did not arrive within the time of one attempt."""


class APIStatusError(APIError):
    """An answer with an error status.

    ``status`` is the HTTP status, ``detail`` the server's own words, ``request_id`` its name for the
    request if it gave one, ``retry_after`` the seconds it asked for (None if it did not), ``should_retry`` whether
    it said that asking again makes sense (None if it did not say). ``category`` is whose fault it is, "user",
    "server" or "unknown": as the server says, else by the status, where 408 and 429 are the server's.
    """

    cure = "Look the detail up in the server's log."

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        request: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        expected_seq_id: int | None = None,
        should_retry: bool | None = None,
        category: str | None = None,
    ) -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail
        self.request = request
        self.request_id = request_id
        self.retry_after = retry_after
        self.expected_seq_id = expected_seq_id
        self.should_retry = should_retry
        self.category = _category(status) if category is None else category

    @property
    def fact(self) -> str:
        """What was asked, and the first sentence of what the server said: more is its advice, usually."""
        return f"{self._where()}: {self.detail.partition('. ')[0]}"

    def __str__(self) -> str:
        return f"{self._where()}: {self.detail}. {self.cure}"

    def _where(self) -> str:
        where = f"{self.request}: " if self.request else ""
        name = f" [request {self.request_id}]" if self.request_id else ""
        return f"{where}HTTP {self.status}{name}"


class BadRequestError(APIStatusError):
    """400: the server refuses the request as it is."""

    cure = "Change the request: repeating it gives the same answer."


class AuthenticationError(APIStatusError):
    """401: the credential is missing, wrong or expired."""

    cure = "Check the API key (TINKER_API_KEY or api_key=)."


class CredentialUnavailable(AuthenticationError):
    """There is no credential to be had just now (the credential command failed); nothing was sent."""

    cure = "Run the command of TINKER_CREDENTIAL_CMD by hand, or give a key."

    def __init__(self, detail: str) -> None:
        super().__init__(401, detail)

    def __reduce__(self) -> tuple[type[CredentialUnavailable], tuple[str]]:
        return type(self), (self.detail,)

    def __str__(self) -> str:
        return f"{self.detail}. {self.cure}"


class BillingError(APIStatusError):
    """402: the account can't pay for the request."""

    cure = "Settle the account's billing; waiting operations go on afterwards."


class PermissionDeniedError(APIStatusError):
    """403: the credential may not do this."""

    cure = "Use a key whose owner may do this."


class NotFoundError(APIStatusError):
    """404: the server does not know what the request names."""

    cure = "Check the name; on a restarted server sessions and models may be gone."


class RequestTimeoutError(APIStatusError):
    """408: the server gave up waiting; while polling, the result is not there yet."""

    cure = "The client repeats by itself within its outage bound."


class ConflictError(APIStatusError):
    """409: the request contradicts what the server holds."""

    cure = "Look at the detail: a repeated name, or an operation out of order."


class GoneError(APIStatusError):
    """410: what the request names existed and is gone (session ended, result expired)."""

    cure = "Create a new session or model and load the last checkpoint."


class PayloadTooLargeError(APIStatusError):
    """413: the body is larger than the server takes."""

    cure = "Send smaller batches: repeating the request gives the same answer."


class UnsupportedMediaTypeError(APIStatusError):
    """415: the server does not take a body of this form or compression."""

    cure = "The client tries the forms it knows by itself; if it lasts, ask the server's operator."


class UnprocessableEntityError(APIStatusError):
    """422: the body can't be understood, or a value in it is out of range."""

    cure = "Change the request: repeating it gives the same answer."


class RateLimitError(APIStatusError):
    """429: the server asks to wait."""

    cure = "Send less at a time; the client waits and repeats by itself within its outage bound."


class InternalServerError(APIStatusError):
    """5xx: the server or something in front of it failed."""

    cure = "The client repeats by itself within its outage bound; if it lasts, ask the server's operator."


class ServiceUnavailableError(InternalServerError):
    """503: the server is starting, stopping or overloaded."""


_BY_STATUS: dict[int, type[APIStatusError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    402: BillingError,
    403: PermissionDeniedError,
    404: NotFoundError,
    408: RequestTimeoutError,
    409: ConflictError,
    410: GoneError,
    413: PayloadTooLargeError,
    415: UnsupportedMediaTypeError,
    422: UnprocessableEntityError,
    429: RateLimitError,
    503: ServiceUnavailableError,
}


def status_error(
    status: int,
    detail: str,
    *,
    request: str | None = None,
    request_id: str | None = None,
    retry_after: float | None = None,
    expected_seq_id: int | None = None,
    should_retry: bool | None = None,
    category: str | None = None,
) -> APIStatusError:
    """The error of the class that belongs to ``status``."""
    kind = _BY_STATUS.get(status, InternalServerError if status >= 500 else APIStatusError)
    return kind(
        status,
        detail,
        request=request,
        request_id=request_id,
        retry_after=retry_after,
        expected_seq_id=expected_seq_id,
        should_retry=should_retry,
        category=category,
    )


def _category(status: int) -> str:
    if status >= 500 or status in (408, 429):
        return "server"
    return "user" if status >= 400 else "unknown"


class APIResponseError(APIError):
    """An answer that can't be decoded: the server and this client disagree about the protocol."""

    def __init__(self, message: str, *, request: str | None = None) -> None:
        super().__init__(message)
        self.request = request


class DownloadError(APIError):
    """A file could not be had whole. ``received`` bytes of ``total`` (None where that is not known) had arrived.

    The last failure is the cause. What has arrived is kept beside the folder that was to be, and the same download
    goes on from there, unless what arrived was wrong.
    """

    def __init__(self, message: str, *, request: str, received: int, total: int | None) -> None:
        super().__init__(message)
        self.request = request
        self.received = received
        self.total = total


class RequestFailedError(TinkerError):
    """The server ran the operation and says that it failed.

    ``category`` is "user" (the request's fault), "server" or "unknown"; ``request_id`` names the promise.
    """

    def __init__(self, message: str, *, category: str, request_id: str, operation: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.category = category
        self.request_id = request_id
        self.operation = operation

    def __str__(self) -> str:
        what = self.operation or "the request"
        return f"{what} failed at the server ({self.category}, request {self.request_id}): {self.message}"


class OperationError(TinkerError):
    """An accepted operation that will not give its result. ``operation`` describes it."""

    def __init__(self, message: str, *, operation: str | None = None) -> None:
        super().__init__(message)
        self.operation = operation


class OperationCancelled(OperationError):
    """Cancelled by the user: an operation before it was sent (the server never saw it), or a call in a task."""


class ModelLost(OperationError):
    """The server no longer holds what the operation needs: its session, its model or its promise.

    ``trigger`` is which of a RecoveryPolicy's ``triggers`` it is; None when a recovery itself has come to it.
    """

    def __init__(self, message: str, *, operation: str | None = None, trigger: str | None = None) -> None:
        super().__init__(message, operation=operation)
        self.trigger = trigger


class StaleSampler(OperationError):
    """The server has lost these ephemeral weights, and they can't be made again: their model has gone on since."""


class OutageError(OperationError):
    """No usable answer within the outage bound. ``pending`` lists everything that waits, a line each."""

    def __init__(self, message: str, *, operation: str | None = None, pending: tuple[str, ...] = ()) -> None:
        text = "\n".join((message, *(f"  {line}" for line in pending)))
        super().__init__(text, operation=operation)
        self.pending = pending


class UnknownVerdict(OperationError):
    """It can't be known whether the server applied the operation, and repeating it might apply it twice.

    ``behind`` names the operations that were accepted after it, which wait for its user's decision, too:
    ``restore()``, ``assume_applied()`` or ``abandon()`` of its training client.
    """

    def __init__(self, message: str, *, operation: str | None = None, behind: tuple[str, ...] = ()) -> None:
        super().__init__(message, operation=operation)
        self.behind = behind


class LaneStopped(OperationError):
    """An earlier operation of the same model stopped the lane; this one was not applied by this client."""


class LedgerFull(OperationError):
    """Nothing more that trains is accepted: memory and disk are full of what is kept for a rebuild. Nothing was sent.

    A checkpoint makes room.
    """


class RecoveryError(TinkerError):
    """A run that is not recovered. ``run_id`` names it."""

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


class RecoveryDisabled(RecoveryError):
    """The configuration has no RecoveryPolicy, and none was given. Nothing was begun."""


class RecoveryPending(RecoveryError):
    """The run is being recovered already. Nothing was begun."""


class RecoveryFailed(RecoveryError):
    """Every attempt has failed, or one in such a way that there is no use in another; that error is the cause.

    ``attempts`` is how many were made. No client is left of them.
    """

    def __init__(self, message: str, *, run_id: str, attempts: int) -> None:
        super().__init__(message, run_id=run_id)
        self.attempts = attempts


class WaitTimeout(TinkerError, TimeoutError):
    """The time given to a wait ran out. The operation itself goes on; wait again to get its result."""


class LossTermError(TinkerError):
    """A term of a custom loss, a function of the user's, could not be computed.

    ``term`` is the regularizer's name or "base loss", ``problem`` what it did, ``cure`` what to do; what the function
    raised is the cause.
    """

    def __init__(self, term: str, problem: str, cure: str) -> None:
        super().__init__(term, problem, cure)
        self.term = term
        self.problem = problem
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.term}: {self.problem}. {self.cure}"


class LossTermTimeout(LossTermError, TimeoutError):
    """A term of a custom loss took longer than it may. Its thread may still run; what it returns is not used."""


class GradientUnavailable(LossTermError):
    """A term of a custom loss has a value but no gradient that could be had; it is never taken for 0."""


class NotStreamed(TinkerError):
    """The server streams no samples; it can be asked for whole ones."""


class CircuitOpen(TinkerError):
    """What was to be called has failed too often of late. It was not called; the text says when it will be again."""


class DiskError(TinkerError):
    """A file or folder can't be used. ``path`` is which, ``problem`` what is wrong, ``cure`` what to do about it."""

    def __init__(self, path: Path, problem: str, cure: str) -> None:
        super().__init__(path, problem, cure)
        self.path = path
        self.problem = problem
        self.cure = cure

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}. {self.cure}"


class DiskFull(DiskError):
    """There is no room on the disk, or none that this user may fill. Nothing was written."""


class DiskReadOnly(DiskError):
    """It may not be used by this user, or not be written by anybody."""


class DiskMissing(DiskError):
    """There is no such file or folder."""


class DiskLocked(DiskError):
    """Somebody else works with it."""


class DiskDamaged(DiskError):
    """A file does not hold what was written to it. Nothing of it was used."""


class NotAFolder(DiskError):
    """A file is where a folder has to be."""


class JobError(TinkerError):
    """A job can't go on: what its folder holds does not fit, or is damaged. Nothing of it was changed."""


class JobInUse(JobError):
    """Another process runs the job. Nothing of it was touched."""


class JobChanged(JobError):
    """The program asks for another job than the one that was begun under this name. Nothing of it was changed."""


class ClosedError(TinkerError):
    """The runtime, session or client that the call needs has been closed."""


class WrongPlace(TinkerError, RuntimeError):
    """A handle was used where it does not belong: another thread, run of trio or process. Nothing was done."""
