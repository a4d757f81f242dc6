"""The loss curve as an SVG picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

import msgspec

__all__ = ["Mark", "loss_chart"]

_WIDTH, _HEIGHT = 720, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 24, 48, 58


class Mark(msgspec.Struct, frozen=True):
    """Something that happened at ``step``: drawn as an upright line with a number, explained below its tip."""

    step: int
    text: str


def loss_chart(title: str, losses: Sequence[float], marks: Sequence[Mark] = ()) -> str:
    """The picture of ``losses``, of steps 1, 2, 3, ..., with ``marks``. Values that are not finite leave a gap."""
    steps = max(len(losses), 2)
    finite = [loss for loss in losses if math.isfinite(loss)]
    ticks_y = axis_ticks(max(finite, default=1.0))
    top = ticks_y[-1]

    def x(step: float) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (step - 1) / (steps - 1)

    def y(loss: float) -> float:
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * loss / top

    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" font-family="sans-serif" font-size="13" fill="#333">'
        ),
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="24" font-size="16">{escape(title)}</text>',
    ]
    for tick in ticks_y:
        parts.append(
            f'<line x1="{_LEFT}" y1="{y(tick):.1f}" x2="{_WIDTH - _RIGHT}" y2="{y(tick):.1f}" stroke="#e4e4e4"/>'
        )
        parts.append(f'<text x="{_LEFT - 8}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in step_ticks(len(losses)):
        parts.append(
            f'<line x1="{x(tick):.1f}" y1="{y(0):.1f}" x2="{x(tick):.1f}" y2="{y(0) + 5:.1f}" stroke="#333"/>'
        )
        parts.append(f'<text x="{x(tick):.1f}" y="{y(0) + 20:.1f}" text-anchor="middle">{tick}</text>')
    parts.append(f'<path d="M{_LEFT} {_TOP}V{y(0):.1f}H{_WIDTH - _RIGHT}" fill="none" stroke="#333"/>')
    parts.append(f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2:.0f}" y="{_HEIGHT - 14}" text-anchor="middle">step</text>')
    middle = (_TOP + _HEIGHT - _BOTTOM) / 2
    parts.append(
        f'<text x="20" y="{middle:.0f}" text-anchor="middle" transform="rotate(-90 20 {middle:.0f})">'
        "loss, nats per answer token</text>"
    )
    for number, mark in enumerate(marks, 1):
        at = x(max(1, min(mark.step, len(losses))))
        low = _TOP + 4 + 15 * number
        parts.append(
            f'<line x1="{at:.1f}" y1="{low:.1f}" x2="{at:.1f}" y2="{y(0):.1f}" '
            'stroke="#c0392b" stroke-dasharray="4 3"/>'
        )
        parts.append(
            f'<text x="{at + 5:.1f}" y="{low + 4:.1f}" fill="#c0392b" font-size="12">{escape(mark.text)}</text>'
        )
    parts.extend(
        f'<polyline points="{run}" fill="none" stroke="#1f5fa8" stroke-width="2" stroke-linejoin="round"/>'
        for run in _runs(losses, x, y)
    )
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def axis_ticks(largest: float) -> list[float]:
    """Round numbers from 0 to the first one at or above ``largest``, four to ten of them."""
    largest = max(largest, 1e-6) if largest > 0 else 1.0
    exponent = math.floor(math.log10(largest / 4))
    step = next(
        digit * 10.0**power
        for power in (exponent, exponent + 1)
        for digit in (1.0, 2.0, 2.5, 5.0)
        if largest / (digit * 10.0**power) <= 6
    )
    return [round(step * i, 10) for i in range(math.ceil(largest / step - 1e-9) + 1)]


def step_ticks(last: int) -> list[int]:
    """The first step, the last one and round numbers between, far enough apart to be read."""
    if last <= 1:
        return [1]
    distance = next(
        digit * 10**power for power in range(12) for digit in (1, 2, 5) if last / (digit * 10**power) <= 8
    )
    between = [step for step in range(distance, last, distance) if step > 1 and last - step > distance / 2]
    return [1, *(step for step in between if step - 1 > distance / 2), last]


def _runs(losses: Sequence[float], x: Callable[[float], float], y: Callable[[float], float]) -> list[str]:
    runs: list[list[str]] = [[]]
    for step, loss in enumerate(losses, 1):
        if math.isfinite(loss):
            runs[-1].append(f"{x(step):.1f},{y(loss):.1f}")
        elif runs[-1]:
            runs.append([])
    return [" ".join(run) for run in runs if run]
