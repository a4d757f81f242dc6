"""Every public call of the official SDKs 0.38.0, 0.25.0 and 0.24.1, sync and async, against the local server."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.expectation import EXCEPTIONS, EXPECTATIONS, VERSIONS
from tests.conformance.expectations import cli, rest, sampling, service, training

pytestmark = [pytest.mark.conformance, pytest.mark.process]

_MODULES = (cli, rest, sampling, service, training)  # importing them fills EXPECTATIONS
_SUFFIX = "_async"
_REFUSED = {refused.call: refused for refused in EXCEPTIONS}


def _cases() -> list[Any]:
    return [
        pytest.param(version, call, id=f"{call}-{version}")
        for version in VERSIONS
        for call, expectation in EXPECTATIONS.items()
        if version in expectation.versions
    ]


@pytest.mark.parametrize(("version", "call"), _cases())
def test_a_call_does_what_it_says(driven: Any, verdict: Any, version: str, call: str) -> None:
    seen = driven(version)["seen"]
    variants = [name for name in (call, call + _SUFFIX) if name in seen]
    assert variants, f"SDK {version} has no {call}, or nothing drives it"
    refused = _REFUSED.get(call)
    for name in variants:
        verdict(name, version, "works" if refused is None else f"WIRE {refused.section}")
        found = seen[name]
        if refused is None:
            if "raised" in found:
                pytest.fail(f"{name} raised {found['raised']}\n" + "\n".join(found["traceback"]), pytrace=False)
            EXPECTATIONS[call].check(found["saw"], version)
        else:
            assert found.get("raised") == refused.raises, found
            assert refused.text in found["text"]


@pytest.mark.parametrize("version", VERSIONS)
def test_calls_do_the_same_whatever_the_server_switches_on(driven: Any, version: str) -> None:
    found = driven(
        version,
        sample_use_retrieve_futures=True,
        sample_join_sampling_session=True,
        proto_compress_fwdbwd=True,
        parallel_fwdbwd_chunks=False,
        metadata_only_above=64,
    )["seen"]
    for call, expectation in EXPECTATIONS.items():
        for name in (call, call + _SUFFIX):
            if name in found and call not in _REFUSED:
                assert "raised" not in found[name], (name, found[name])
                expectation.check(found[name]["saw"], version)
    if version == "0.38.0":  # which is the first to ask for them
        saw = found["SamplingClient.create"]["saw"]
        assert saw["polls_for_all"]
        assert saw["number"] < 1000, "the server gives numbers from 1"


@pytest.mark.parametrize("version", VERSIONS)
def test_no_public_call_is_left_out(driven: Any, version: str) -> None:
    found = driven(version)
    assert found["version"] == version
    assert sorted(found["seen"]) == sorted(found["calls"])
    expected = {call for call, expectation in EXPECTATIONS.items() if version in expectation.versions}
    assert {name.removesuffix(_SUFFIX) for name in found["calls"]} == expected


def test_exceptions_are_few() -> None:
    assert len(EXCEPTIONS) <= 5
    assert set(_REFUSED) <= set(EXPECTATIONS)
