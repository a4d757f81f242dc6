from __future__ import annotations

from benchmarks.rounds import Rates, timed_rounds


def test_ratios_are_of_the_best_rounds() -> None:
    rates = Rates({"mine": [10.0, 30.0], "theirs": [10.0, 5.0]})
    assert rates.best("mine") == 30.0
    assert rates.ratio("mine", "theirs") == 3.0
    assert rates.spread("mine", "theirs") == "best of 2 rounds; by the round 1.00 to 6.00"


async def test_contestants_take_turns_after_a_warm_up() -> None:
    seen: list[tuple[str, int]] = []

    async def a(times: int) -> None:
        seen.append(("a", times))
        sum(range(20_000))

    async def b(times: int) -> None:
        seen.append(("b", times))
        sum(range(200_000))

    rates = await timed_rounds({"a": (a, 40), "b": (b, 40)}, rounds=2)
    assert seen == [("a", 2), ("b", 2), ("a", 40), ("b", 40), ("a", 40), ("b", 40)]
    assert rates.ratio("a", "b") > 2
