"""The Api: what it sends with every request, and what it makes of every kind of reply."""

from __future__ import annotations

import gzip
import io
import logging
import pickle
import platform
import traceback
from typing import Any

import pytest
import zstandard

from tests.wire.scripted import KEY, Answer, scripted
from tinker_actors import errors
from tinker_actors.config import Secret
from tinker_actors.ports import Request
from tinker_actors.types import OptimStepResponse, Promise
from tinker_actors.version import __version__
from tinker_actors.wire.api import Api

PROMISE = Answer({"request_id": "r-1", "model_id": None, "later": [1]})


async def call(api: Api, **options: Any) -> Promise:
    return await api.call("/optim_step", Promise, {"a": 1}, purpose="train", **options)


async def failure(answer: Answer, **options: Any) -> errors.TinkerError:
    async with scripted(answer) as (api, _):
        with pytest.raises(errors.TinkerError) as caught:
            await call(api, **options)
    return caught.value


async def test_what_every_request_carries():
    async with scripted(PROMISE) as (api, script):
        promise = await call(api, key="key-1", headers=(("x-more", "m"),), attempt=3, timeout=7.5)
        assert promise == Promise(request_id="r-1")
        await api.call("/get_server_capabilities", OptimStepResponse, method="GET", purpose="rest")
    post, get = script.asked
    assert (post.method, post.path) == ("POST", "/services/prod/api/v1/optim_step")
    assert post.json == {"a": 1}
    expected = {
        "accept": "application/json",
        "accept-encoding": "gzip, zstd",
        "content-type": "application/json",
        "user-agent": f"tinker-actors/{__version__}",
        "x-api-key": KEY,
        "x-idempotency-key": "key-1",
        "x-more": "m",
        "x-stainless-async": "async:trio",
        "x-stainless-package-version": __version__,
        "x-stainless-runtime": platform.python_implementation(),
        "x-stainless-retry-count": "3",
        "x-stainless-read-timeout": "7.5",
    }
    assert {name: post.headers.get(name) for name in expected} == expected
    assert get.path == "/services/prod/api/v1/get_server_capabilities"
    assert "content-type" not in get.headers
    assert "x-idempotency-key" not in get.headers
    assert not {name for name in post.headers if "tinker-request" in name or name.startswith("x-sdk")}


@pytest.mark.parametrize("status", [200, 201, 202, 299])
async def test_every_2xx_is_a_success(status: int):
    async with scripted(Answer({"request_id": "r"}, status)) as (api, _):
        assert (await call(api)).request_id == "r"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (304, errors.APIStatusError),
        (400, errors.BadRequestError),
        (401, errors.AuthenticationError),
        (402, errors.BillingError),
        (403, errors.PermissionDeniedError),
        (404, errors.NotFoundError),
        (408, errors.RequestTimeoutError),
        (409, errors.ConflictError),
        (410, errors.GoneError),
        (413, errors.PayloadTooLargeError),
        (415, errors.UnsupportedMediaTypeError),
        (418, errors.APIStatusError),
        (422, errors.UnprocessableEntityError),
        (429, errors.RateLimitError),
        (500, errors.InternalServerError),
        (503, errors.ServiceUnavailableError),
        (529, errors.InternalServerError),
    ],
)
async def test_each_status_has_its_error(status: int, kind: type[errors.APIStatusError]):
    error = await failure(Answer({"detail": "the reason"}, status, {"x-request-id": "req-9"}))
    assert type(error) is kind
    assert isinstance(error, errors.APIStatusError)
    assert (error.status, error.detail, error.request_id) == (status, "the reason", "req-9")
    assert error.request == "POST /api/v1/optim_step"


@pytest.mark.parametrize(
    ("status", "body", "category"),
    [
        *((status, {"detail": "no"}, "user") for status in (400, 403, 404, 409, 413, 422, 499)),
        *((status, {"detail": "no"}, "server") for status in (408, 429, 500, 503, 529)),
        (304, b"", "unknown"),
        (400, {"error": "no", "category": "server"}, "server"),
        (500, {"message": "no", "category": " User "}, "user"),
        (500, {"detail": {"message": "no", "category": "user"}}, "user"),
        (400, {"error": {"message": "no", "category": "unknown"}}, "unknown"),
        (400, {"category": "user_error"}, "user"),
        (503, {"category": None}, "server"),
        (503, {"category": ["user"]}, "server"),
        (503, ["category"], "server"),
    ],
)
async def test_whose_fault_it_is(status: int, body: object, category: str):
    """As the server says; else its own for 5xx and for what passes."""
    error = await failure(Answer(body, status))
    assert isinstance(error, errors.APIStatusError)
    assert error.category == category
    assert pickle.loads(pickle.dumps(error)).category == category


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"detail": "plain"}, "plain"),
        (
            {"detail": [{"loc": ["body", "seq_id"], "msg": "field required", "type": "x"}, {"msg": "and more"}]},
            "body.seq_id: field required; and more",
        ),
        ({"detail": {"message": "within"}}, "within"),
        ({"detail": {"other": 1}}, '{"other":1}'),
        ({"error": "in error"}, "in error"),
        ({"message": "in message"}, "in message"),
        ({"detail": None, "error": {"message": "deep"}}, "deep"),
        (["a", "list"], "a; list"),
        ({}, "{}"),
        (b"<html>\n <b>Bad</b>\tGateway</html>", "<html> <b>Bad</b> Gateway</html>"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"", "Bad Gateway"),
        (b"x" * 5000, "x" * 600 + "..."),
        (b"[" * 5000, "[" * 600 + "..."),
    ],
)
async def test_the_servers_own_words_are_found(body: object, detail: str):
    error = await failure(Answer(body, 502))
    assert isinstance(error, errors.InternalServerError)
    assert error.detail == detail


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "7", "retry-after-ms": "250"}, 0.25),
        ({"retry-after": "7", "retry-after-ms": "soon"}, 7.0),
        ({"retry-after": "Tue, 24 Nov 2026 02:00:30 GMT", "date": "Tue, 24 Nov 2026 02:00:00 GMT"}, 30.0),
        ({"retry-after": "Tue, 24 Nov 2026 01:00:00 GMT", "date": "Tue, 24 Nov 2026 02:00:00 GMT"}, 0.0),
        ({"retry-after": "Tue, 24 Nov 2026 02:00:30 GMT"}, None),
        ({"retry-after": "Tue, 24 Nov 2026 02:00:30 GMT", "date": "Tue, 24 Nov 2026 02:00:00 -0000"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "later"}, None),
    ],
)
async def test_the_wait_that_the_server_asks_for(headers: dict[str, str], seconds: float | None):
    error = await failure(Answer({"detail": "wait"}, 429, headers))
    assert isinstance(error, errors.RateLimitError)
    assert error.retry_after == seconds


@pytest.mark.parametrize(
    ("status", "body", "seq_id"),
    [
        (409, {"detail": "Sequence conflict: expected 5, got 3"}, 5),
        (409, {"detail": "seq_id 3 is wrong; the next expected seq_id is 12"}, 12),
        (409, {"detail": {"expected_seq_id": 4}}, 4),
        (409, {"detail": "no", "expected_seq_id": 6}, 6),
        (409, {"detail": "a checkpoint 7 exists"}, None),
        (409, {"detail": {"expected_seq_id": True}}, None),
        (400, {"detail": "expected 5, got 3"}, None),
    ],
)
async def test_the_seq_id_that_the_server_waits_for(status: int, body: object, seq_id: int | None):
    error = await failure(Answer(body, status))
    assert isinstance(error, errors.APIStatusError)
    assert error.expected_seq_id == seq_id


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.ZstdCompressor().compress], ids=["gzip", "zstd"])
async def test_compressed_replies_are_read(pack: Any):
    encoding = "gzip" if pack is gzip.compress else "zstd"
    headers = {"content-encoding": encoding}
    async with scripted(Answer(pack(b'{"request_id":"r"}'), headers=headers)) as (api, _):
        assert (await call(api)).request_id == "r"
    error = await failure(Answer(pack(b'{"detail":"packed"}'), 500, headers))
    assert isinstance(error, errors.InternalServerError)
    assert error.detail == "packed"
    for answer in (
        Answer(pack(b"\0" * (9 << 20)), headers=headers),  # beyond the limit of a control reply
        Answer(pack(b'{"request_id":"r"}')[:-3], headers=headers),
        Answer(b"{}", headers={"content-encoding": "br"}),
    ):
        assert isinstance(await failure(answer), errors.APIResponseError)
    # a status counts whatever its body is
    error = await failure(Answer(b"garbage", 503, headers))
    assert isinstance(error, errors.InternalServerError)
    assert error.detail == "Service Unavailable"


async def test_a_reply_that_makes_no_sense_is_a_response_error():
    for body in (b"", b"not json", b"[]", b'{"request_id":1}', b'{"request_id":"\xff"}', b'{"request_id":NaN}'):
        error = await failure(Answer(body, 202))
        assert isinstance(error, errors.APIResponseError)
        assert "POST /api/v1/optim_step: HTTP 202" in str(error)


async def test_bodies_are_bounded_and_a_long_error_is_still_an_error():
    assert isinstance(await failure(Answer(b'"' + b"a" * (9 << 20) + b'"')), errors.APIResponseError)
    error = await failure(Answer(b"a" * (9 << 20), 500))
    assert isinstance(error, errors.InternalServerError)
    assert len(error.detail) < 1000


async def test_an_errors_body_that_is_cut_off_leaves_the_error():
    error = await failure(Answer(b'{"detail": "all is', 503, cut=True))
    assert isinstance(error, errors.InternalServerError)
    assert error.detail == '{"detail": "all is'


async def test_a_success_that_is_cut_off_is_none():
    error = await failure(Answer(b'{"request_id":"r"}', 200, cut=True))
    assert isinstance(error, errors.APIConnectionError)
    assert error.sent


# secrets


@pytest.mark.parametrize(
    "answer",
    [
        Answer({"detail": f"bad key {KEY}"}, 401),
        Answer({"detail": {"headers": {"x-api-key": KEY}}}, 500),
        Answer(f"<html>{KEY}</html>".encode(), 403),
        Answer({"detail": "x"}, 500, {"x-request-id": KEY}),
        Answer(f'{{"request_id": 1, "{KEY}": 1}}'.encode()),
        Answer(b"{}", headers={"content-type": KEY}),
        Answer(b"{}", headers={"content-encoding": KEY}),
        Answer({"detail": f"expected {KEY}"}, 409),
        # where a text is cut, no part of the key may stay
        *(Answer({"detail": "x" * length + KEY}, 500) for length in range(570, 600, 5)),
        *(Answer(b"{}", headers={"content-type": "x" * length + KEY}) for length in range(900, 960, 5)),
    ],
)
async def test_a_credential_that_is_echoed_never_shows(answer: Answer, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    error = await failure(answer)
    out = io.StringIO()
    traceback.print_exception(error, file=out)
    shown = [str(error), repr(error), out.getvalue(), caplog.text, repr(vars(error))]
    seen: BaseException | None = error
    while seen is not None:
        shown.append(repr(seen))
        seen = seen.__cause__ or seen.__context__
    assert not any(KEY[:12] in text for text in shown)
    # in its place, unless that is beyond the cut
    assert any("[hid" in text or "..." in text for text in shown) or answer.status < 300


async def test_a_credential_shows_in_no_repr_and_can_not_be_pickled():
    request = Request(method="GET", url="http://x/", headers=(("x-api-key", KEY),))
    async with scripted(PROMISE) as (api, script):
        assert KEY not in repr(api) + repr(request) + str(request)
        with pytest.raises(TypeError):
            pickle.dumps(api)
        api.renew(Secret("tml-the-next"))
        await call(api)
        assert script.asked[0].headers["x-api-key"] == "tml-the-next"
        assert KEY not in api.redact(f"a late reply about {KEY}")
        assert "tml-the-next" not in api.redact("tml-the-next")
