"""What AdminClient offers, which has the administrators' calls since 0.38."""

from __future__ import annotations

from functools import cache
from typing import Any

import tinker

from tests.conformance.programs.scenario import Call, World, scenario
from tests.conformance.programs.scenarios.rest import audited, stored, usage
from tests.conformance.programs.scenarios.service import telemetry


@cache
def _admin(world: World) -> Any:
    return tinker.AdminClient(base_url=world.url, api_key=world.key)


@scenario("AdminClient.get_audit_log")
def get_audit_log(world: World, call: Call) -> Any:
    return audited(world, call, _admin(world))


@scenario("AdminClient.get_billing_usage")
def get_billing_usage(world: World, call: Call) -> Any:
    return usage(world, call, _admin(world))


@scenario("AdminClient.get_current_checkpoint_storage_usage")
def get_current_checkpoint_storage_usage(world: World, call: Call) -> Any:
    return stored(world, call, _admin(world))


@scenario("AdminClient.get_telemetry")
def get_telemetry(world: World, call: Call) -> Any:
    return telemetry(world, call, _admin(world))
