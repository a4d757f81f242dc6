"""Every argument of every public method of the official SDK's clients is one here, with the same default."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import pytest
from tinker.lib.public_interfaces.rest_client import RestClient as OfficialRest
from tinker.lib.public_interfaces.sampling_client import SamplingClient as OfficialSampling
from tinker.lib.public_interfaces.service_client import ServiceClient as OfficialService
from tinker.lib.public_interfaces.training_client import TrainingClient as OfficialTraining

from tinker_actors import blocking, clients
from tinker_actors.clients import rest

EACH: Mapping[type, tuple[type, type]] = {
    OfficialService: (clients.ServiceClient, blocking.ServiceClient),
    OfficialTraining: (clients.TrainingClient, blocking.TrainingClient),
    OfficialSampling: (clients.SamplingClient, blocking.SamplingClient),
    OfficialRest: (rest.RestClient, blocking.RestClient),
}
WITHOUT: Mapping[str, str] = {
    "ServiceClient.holder": "inner parts of the SDK's",
    "ServiceClient.get_console_url": "a page of the hosted service's, which no server tells of",
    "TrainingClient.get_console_url": "as the ServiceClient's",
    "ServiceClient.create_custom_loss": "takes what torch.fx can trace; any function is a custom loss here",
    "RestClient.get_telemetry": "what is told belongs to a session, which a RestClient has none of",
    "SamplingClient.create": "takes inner parts of the SDK's; create_sampling_client is the way",
    "SamplingClient.from_sampler_handle": "create_sampling_client_from_handle of a runtime",
    "SamplingClient.on_queue_state_change": "there what the SDK calls, here what calls an observer",
}
DEFAULTS: Mapping[str, str] = {
    "ServiceClient.close.status": "success, where there is none",
    "TrainingClient.forward.loss_fn": "cross_entropy, where there is none",
    "TrainingClient.forward_backward.loss_fn": "cross_entropy, where there is none",
    "SamplingClient.sample.num_samples": "1, where there is none",
    "SamplingClient.sample.sampling_params": "the defaults, where there are none",
    "RestClient.delete_checkpoint.checkpoint_id": "not needed where the first argument is a path",
    "RestClient.copy_weights.destination_project_id": "a project of the environment's there; here it is named",
}


def _methods(kind: type) -> dict[str, Any]:
    found = {name: inspect.getattr_static(kind, name) for name in dir(kind) if not name.startswith("_")}
    return {name: getattr(kind, name) for name, value in found.items() if not isinstance(value, property)}


def _parameters(method: Any) -> dict[str, inspect.Parameter]:
    return {name: each for name, each in inspect.signature(method).parameters.items() if name != "self"}


CALLS = [
    (official, name, ours, front)
    for official, fronts in EACH.items()
    for name in sorted(_methods(official))
    for ours, front in zip(fronts, ("trio", "blocking"), strict=True)
]


@pytest.mark.parametrize(
    ("official", "name", "ours", "front"),
    CALLS,
    ids=[f"{official.__name__}.{name}-{front}" for official, name, _, front in CALLS],
)
def test_a_call_takes_what_the_official_sdks_takes(official: type, name: str, ours: type, front: str) -> None:
    path = f"{official.__name__}.{name}"
    method = getattr(ours, name, None)
    if path in WITHOUT:
        return
    assert method is not None, f"there is no {path}"
    theirs, own = _parameters(getattr(official, name)), _parameters(method)
    for key, parameter in theirs.items():
        assert key in own, f"{path} takes no {key}"
        if f"{path.removesuffix('_async')}.{key}" not in DEFAULTS:
            assert own[key].default == parameter.default, key
    positional = [key for key, each in theirs.items() if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert [key for key, each in own.items() if each.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD][
        : len(positional)
    ] == positional, "given by place, they mean the same"


def test_each_exception_is_one() -> None:
    known = {f"{official.__name__}.{name}" for official in EACH for name in dir(official)}
    assert set(WITHOUT) <= known
    for path in DEFAULTS:
        client, method, key = path.split(".")
        (official,) = [each for each in EACH if each.__name__ == client]
        theirs = _parameters(getattr(official, method))[key].default
        assert _parameters(getattr(EACH[official][0], method))[key].default != theirs, path
