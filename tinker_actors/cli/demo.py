"""``tinker-actors demo``: one run from its options to its exit code."""

from __future__ import annotations

import logging
import sys
from typing import Final, TextIO

import msgspec
import trio

from tinker_actors.cli.arguments import DemoOptions
from tinker_actors.cli.chart import loss_chart
from tinker_actors.cli.display import Display
from tinker_actors.cli.faults import fault_plan, first_third
from tinker_actors.cli.interruption import Interruption
from tinker_actors.cli.report import Findings
from tinker_actors.cli.run_folder import RunFolder, open_run_folder
from tinker_actors.cli.story import Story
from tinker_actors.errors import APIConnectionError, TinkerError
from tinker_actors.testing.faults import FaultPlan

__all__ = ["run_demo"]

_log = logging.getLogger("tinker_actors.cli")

_FAILED: Final = 1


def run_demo(options: DemoOptions) -> int:
    """Run it and return the exit code. Raises InvalidInput for a run folder that can't be used."""
    faults = options.faults and options.base_url is None
    with open_run_folder(options.run_dir, seed=options.seed, steps=options.steps, faults=faults) as folder:
        reconfigure = getattr(sys.stdout, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a model may say what the terminal has no sign for
        display = Display(sys.stdout, live=sys.stdout.isatty())
        display.line("demo", "a small language model learns Pig Latin: string -> ingstray, apple -> appleway")
        plan = fault_plan(first_third(options.steps)) if faults else FaultPlan()
        return trio.run(_run, options, folder, display, plan)


async def _run(options: DemoOptions, folder: RunFolder, display: Display, plan: FaultPlan) -> int:
    story = Story(options, folder, display, plan)
    findings: Findings | None = None
    failure: TinkerError | None = None
    scope = trio.CancelScope()

    def asked_to_stop() -> None:
        display.end_status()
        display.line("stop", "stopping everything in order; once more to leave at once")
        story.tell_stops()

    interruption = Interruption(scope, asked_to_stop)
    async with trio.open_nursery() as nursery:
        await nursery.start(interruption.watch)
        nursery.start_soon(story.watch)
        with scope:
            try:
                findings = await story.tell()
            except TinkerError as error:
                failure = error
        nursery.cancel_scope.cancel(reason="the demo is over")
    display.end_status()
    if findings is not None:
        _tell_verdicts(findings, display)
    _keep(options, folder, display, story)
    if findings is None and options.base_url is None and folder.rows:
        display.line("", "the adapter was in the memory of the demo's own server, and has ended with it")
    if findings is not None:
        display.line("done", f"in {findings.wall_s:.1f} s")
        if options.json:
            display.line(msgspec.json.encode(findings.report()).decode())
        return 0 if all(check.holds is not False for check in findings.checks()) else _FAILED
    if failure is not None:
        _log.error("the demo ended with an error", exc_info=failure)
        _complain(sys.stderr, failure)
        return _FAILED
    assert interruption.exit_code is not None
    return interruption.exit_code


def _tell_verdicts(findings: Findings, display: Display) -> None:
    display.line("proof", "what was claimed, and what the server's own records say:")
    for check in findings.checks():
        display.line("", f"{check.verdict:<7} {check.claim} ({check.detail})")


def _keep(options: DemoOptions, folder: RunFolder, display: Display, story: Story) -> None:
    losses = [row.loss for row in folder.rows]
    kept = [f"metrics.jsonl ({len(losses)} of {options.steps} steps)"]
    if losses:
        folder.chart_path.write_text(loss_chart("Pig Latin: training loss", losses, story.marks), encoding="utf-8")
        kept.append(folder.chart_path.name)
    kept.append(folder.log_path.name)
    if folder.server_log_path.exists():
        kept.append(folder.server_log_path.name)
    display.line("kept", f"{folder.path}: {', '.join(kept)}")


def _complain(stream: TextIO, error: TinkerError) -> None:
    cure = ". Check the URL and that the server runs" if isinstance(error, APIConnectionError) else ""
    print(f"tinker-actors demo: {error}{cure}", file=stream, flush=True)
