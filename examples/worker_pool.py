"""Supervision alone: a pool of workers, each with its own share of the keys, and one that breaks down alone.

`python examples/worker_pool.py` needs no server.
"""

import random

import trio

import supervision

ACCOUNTS = ["ada", "alan", "barbara", "edsger", "grace", "john", "kathleen", "mallory", "niklaus", "tony"]
DEPOSITS = 20  # of 1 each, into each account


class Deposit(supervision.Call[int], frozen=True):
    account: str
    number: int  # a deposit that is asked for again counts once


class Poison(supervision.Cast, frozen=True):
    redeliver = 1000  # no teller survives it, and each next one gets it as well


class Teller(supervision.Actor):
    def __init__(self, ledger: dict[str, set[int]], luck: random.Random) -> None:
        self.ledger = ledger  # outlives the teller: what must survive a crash belongs to no incarnation
        self.luck = luck

    @supervision.handles(Deposit)
    async def deposit(self, message: Deposit) -> int:
        # One message at a time, and an account has one teller: nobody else changes its balance meanwhile.
        balance = self.ledger.setdefault(message.account, set())
        await trio.sleep(0.001)
        balance.add(message.number)
        if self.luck.random() < 0.1:
            raise ConnectionError("the line broke")  # the deposit counts, but its caller can't know
        return len(balance)

    @supervision.handles(Poison)
    def swallow(self, message: Poison) -> None:
        raise ValueError("poisoned")


async def pay_in(tellers: supervision.PartitionSupervisorRef[supervision.ChildSpec], account: str) -> int:
    """The balance in the end, or as far as it came. A call in hand is never repeated behind our back: we do it."""
    balance = 0
    while balance < DEPOSITS:
        try:
            balance = await tellers.partition(account).call(Deposit(account, balance), timeout=60)
        except supervision.ActorDown:
            continue  # the next call waits for the next teller
        except supervision.Degraded:
            break  # it crashed too often, and was given up
    return balance


async def main(seed: int = 0) -> None:
    ledger: dict[str, set[int]] = {}

    def teller(number: int) -> supervision.ChildSpec:
        luck = random.Random(f"{seed}/{number}")
        return supervision.ChildSpec(
            f"teller{number}",
            lambda: Teller(ledger, luck),
            backoff=supervision.Backoff(initial=0.0, maximum=0.0),
            max_restarts=50,  # more than that in a minute, and it is given up: alone, for the intensity is its own
            max_seconds=60,
        )

    balances: dict[str, int] = {}
    async with supervision.open_system("bank", random=random.Random(seed)) as system:
        pool = supervision.PartitionSupervisorSpec("tellers", child=teller, partitions=4)
        tellers = await system.start_child(pool)
        victim = tellers.partition("mallory")  # the same one each time, in every process
        await victim.cast(Poison())

        async def customer(account: str) -> None:
            balances[account] = await pay_in(tellers, account)

        async with trio.open_nursery() as customers:
            for account in ACCOUNTS:
                customers.start_soon(customer, account)
        shut = [account for account in ACCOUNTS if tellers.partition(account) == victim]
        assert all(balances[account] == (0 if account in shut else DEPOSITS) for account in ACCOUNTS)
        print(system.tree())

        await tellers.restart_child(victim.name)
        for account in shut:
            await customer(account)
    assert balances == dict.fromkeys(ACCOUNTS, DEPOSITS)
    assert ledger == {account: set(range(DEPOSITS)) for account in ACCOUNTS}
    print(f"{len(ledger)} accounts with {DEPOSITS} each; {victim.name} was shut for {', '.join(shut)}")


if __name__ == "__main__":
    trio.run(main)
