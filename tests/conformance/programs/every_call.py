"""Drives every public call of the official SDK that is installed. Prints what it saw, as one JSON object.

python -m tests.conformance.programs.every_call URL KEY MODEL FOLDER
"""

from __future__ import annotations

import inspect
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tinker
from tinker.lib.public_interfaces import rest_client

from tests.conformance.programs.scenario import SCENARIOS, Call, World
from tests.conformance.programs.scenarios import admin, cli, rest, sampling, service, training

_MODULES = (admin, cli, rest, sampling, service, training)  # importing them fills SCENARIOS
_SUFFIX = "_async"
_PATIENCE = 30.0  # seconds for one scenario: the SDKs themselves ask on for five minutes, or without end


def public_calls() -> Iterator[str]:
    """What users of this SDK can call, by introspection."""
    classes = [tinker.ServiceClient, tinker.TrainingClient, tinker.SamplingClient, rest_client.RestClient]
    if hasattr(tinker, "AdminClient"):
        classes.append(tinker.AdminClient)
    for class_ in classes:
        for name, _ in inspect.getmembers(class_):
            if not name.startswith("_"):
                yield f"{class_.__name__}.{name}"
    for command in cli.commands():
        yield f"tinker {command}"


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in a block that takes longer."""

    def give_up(*_: object) -> None:
        raise TimeoutError(f"not finished after {seconds:g} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def main(url: str, key: str, model: str, folder: str) -> dict[str, Any]:
    """The program."""
    world = World(url, key, model, Path(folder))
    calls = sorted(public_calls())
    seen: dict[str, Any] = {}
    took: dict[str, float] = {}
    for name in calls:
        drive = SCENARIOS.get(name.removesuffix(_SUFFIX))
        if drive is None:
            continue
        method = name.partition(".")[2]
        start = time.perf_counter()
        try:
            with within(_PATIENCE):
                seen[name] = {"saw": drive(world, Call(method, awaited=method.endswith(_SUFFIX)))}
        except Exception as error:
            told = traceback.format_exc().splitlines()[-12:]
            seen[name] = {"raised": type(error).__name__, "text": str(error), "traceback": told}
        took[name] = time.perf_counter() - start
    return {"version": world.version, "calls": calls, "seen": seen, "took": took}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])), flush=True)
    os._exit(0)  # the SDKs' threads and sessions that nobody closes here would hold the end back
