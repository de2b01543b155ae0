"""Money shared by processes: never above the cap, whoever dies, and nothing of it lost."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import defaultdict

import pytest

from graphs import Sampling
from graphs.motifs import chain, vote
from orchestra.errors import CannotAfford, InputError
from orchestra.execution import Runtime, Settings
from orchestra.execution.leases import lease, share
from orchestra.ledger import Ledger, Price
from orchestra.testing import ScriptedModel
from orchestra.traces.store import LedgerEntry, RunRecord, Store
from orchestra.traces.store.leases import live_leases

CAP = 20_000
TERM_SECONDS = 1.5
WORKER = """
import asyncio, os, random, sys
from orchestra.errors import CannotAfford
from orchestra.execution.leases import lease
from orchestra.traces.store import Store

url, run_id, name, seed, served, term = sys.argv[1:]

async def work(ledger, store, rng, log):
    while True:
        try:
            reservation = await ledger.reserve(rng.randint(1, 60), name)
        except CannotAfford:
            return
        await store.flush()                       # as the journal does before a call is sent
        cost = rng.randint(0, reservation.nano)
        os.write(log, f"{reservation.id} {cost}\\n".encode())   # the server's own count
        await asyncio.sleep(rng.random() * 0.01)
        ledger.settle(reservation, cost)

async def main():
    log = os.open(served, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with Store.open(url) as store:
        async with lease(store, run_id, 500, ledger=f"run/{name}", term_seconds=float(term)) as ledger:
            rng = random.Random(int(seed))
            await asyncio.gather(*(work(ledger, store, rng, log) for _ in range(6)))

asyncio.run(main())
"""


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("postgres_url")
    return str(tmp_path / "store.sqlite")


@pytest.fixture
def fresh(url):
    """An empty run, in a store of either kind."""
    run_id = f"run-{random.Random().getrandbits(64):x}"
    with Store.open(url) as store:
        store.post(RunRecord(run_id, "run"))
        yield store, run_id


@pytest.fixture
def run(fresh):
    """One with a cap for all its processes."""
    share(*fresh, CAP)
    return fresh


def booked(store, run_id):
    """What the run's books come to, reservation by reservation: by event, the last word on each."""
    entries = [record.entry for record in store.ledger_entries(run_id)]
    whole = Ledger(None)
    whole.replay(entries)
    closed = defaultdict(dict)
    for entry in entries:
        if entry.event in ("settle", "unknown"):
            closed[entry.event].setdefault(entry.reservation_id, entry.nano)
    return whole, closed


def test_processes_that_are_killed_at_random_never_push_a_run_over_its_cap(url, run, tmp_path):
    store, run_id = run
    served, rng = tmp_path / "served", random.Random(7)
    number = iter(range(1000))

    def start(name):
        seed = str(next(number))
        words = [sys.executable, "-c", WORKER, url, run_id, name, seed, str(served), str(TERM_SECONDS)]
        return subprocess.Popen(words, env={**os.environ, "PYTHONWARNINGS": "error"})

    workers = {f"worker-{n}": start(f"worker-{n}") for n in range(3)}
    killed = 0
    give_up = time.monotonic() + 90
    while any(worker.poll() is None for worker in workers.values()):
        assert time.monotonic() < give_up
        time.sleep(rng.uniform(0.2, 0.6))
        name = rng.choice(sorted(workers))
        if killed < 4 and workers[name].poll() is None and served.exists():
            workers[name].send_signal(signal.SIGKILL)
            workers[name].wait()
            killed += 1
            workers[name] = start(name)
    assert {worker.returncode for worker in workers.values()} == {0}
    time.sleep(TERM_SECONDS)
    assert live_leases(store, run_id) == set()

    whole, closed = booked(store, run_id)
    costs = {line.split()[0]: int(line.split()[1]) for line in served.read_text().splitlines()}
    assert killed
    assert CAP - 60 * 18 < whole.spent <= CAP, "all of the cap is of use, and no more"
    assert sum(costs.values()) <= whole.spent
    assert all(costs[call] == nano for call, nano in closed["settle"].items())
    assert whole.spent == sum(costs[call] for call in closed["settle"]) + sum(closed["unknown"].values())
    assert set(costs) <= closed["settle"].keys() | closed["unknown"].keys()
    assert len(closed["unknown"]) <= 6 * killed


async def test_a_holder_spends_at_full_speed_and_extends_in_chunks(run):
    store, run_id = run
    async with lease(store, run_id, 100, ledger="run/a") as ledger:
        for _ in range(50):
            ledger.settle(await ledger.reserve(30, "call"), 30)
        assert (ledger.path, ledger.spent) == ("run/a", 1_500)
    async with lease(store, run_id, 100, ledger="run/b") as other:
        with pytest.raises(CannotAfford, match="left of"):
            await other.reserve(CAP - 1_500 + 1, "too much")
        other.settle(await other.reserve(CAP - 1_500, "all the rest"), 7)


async def test_who_needs_what_another_holds_unused_waits_until_it_is_handed_back(run):
    store, run_id = run
    async with lease(store, run_id, CAP, ledger="run/a") as rich, lease(store, run_id, 10, ledger="run/b") as poor:
        busy = rich.reserve_now(CAP // 2, "in flight")
        waiting = asyncio.create_task(poor.reserve(CAP // 2 + 1, "large"))
        while rich.cap > CAP // 2:  # until it has handed back what it does not use
            await asyncio.sleep(0.01)
        behind = asyncio.create_task(rich.reserve(CAP // 2, "later"))
        await asyncio.sleep(0.05)
        assert not waiting.done()
        rich.settle(busy, 1)
        large = await asyncio.wait_for(waiting, 10)
        poor.settle(large, 5)
        rich.settle(await asyncio.wait_for(behind, 10), 5)
    assert live_leases(store, run_id) == set()
    assert booked(store, run_id)[0].settled == 11


async def test_a_call_that_others_have_made_impossible_is_refused_and_a_free_one_is_not(run):
    store, run_id = run
    async with lease(store, run_id, 100, ledger="run/a") as first, lease(store, run_id, 100, ledger="run/b") as second:
        first.settle(await first.reserve(CAP, "everything"), CAP)
        with pytest.raises(CannotAfford):
            await asyncio.wait_for(second.reserve(200, "call"), 10)
        assert second.reserve_now(0, "free")


async def test_a_holder_that_outlives_its_lease_reserves_nothing_more(run, monkeypatch):
    store, run_id = run
    async with lease(store, run_id, 100, ledger="run/a", term_seconds=0.4) as ledger:
        kept = await ledger.reserve(60, "in flight when it fell asleep")
        await store.flush()
        time.sleep(0.5)  # the whole process stands still
        with pytest.raises(CannotAfford, match="could not be renewed in time"):
            ledger.reserve_now(1, "after")
        async with lease(store, run_id, 100, ledger="run/b", cap_nano=100) as heir:
            with pytest.raises(CannotAfford):
                await heir.reserve(41, "more than is left")
            heir.settle(await heir.reserve(40, "the rest"), 40)
        ledger.settle(kept, 3)  # late: it was booked in full, and stays so
        with pytest.raises(CannotAfford, match=r"renew|taken back"):
            await ledger.reserve(1, "after all")
    assert booked(store, run_id)[0].spent == 100


async def test_a_resumed_worker_goes_on_where_it_was_and_its_own_caps_with_it(run):
    store, run_id = run
    for spent in (0, 30):
        async with lease(store, run_id, 100, ledger="run/a") as ledger:
            agent = ledger.child("agent", 50)
            assert (ledger.settled, agent.settled) == (spent, spent)
            agent.settle(agent.reserve_now(30 if not spent else 20, "call"), 30 if not spent else 20)
            if spent:
                with pytest.raises(CannotAfford, match="'run/a/agent'"):
                    agent.reserve_now(1, "over its own cap")


async def test_an_overrun_of_one_holder_stops_them_all(run):
    store, run_id = run
    async with lease(store, run_id, 100, ledger="run/a") as first, lease(store, run_id, 100, ledger="run/b") as second:
        first.settle(first.reserve_now(10, "call"), 25)

        async def until_it_is_refused():
            while True:
                second.release(second.reserve_now(1, "next"))
                await asyncio.sleep(0.01)

        with pytest.raises(CannotAfford, match="cost more than was reserved"):
            await asyncio.wait_for(until_it_is_refused(), 10)


async def test_what_was_spent_before_the_first_lease_counts(fresh):
    store, run_id = fresh
    before = Ledger(CAP, sink=lambda entry: store.post(LedgerEntry(run_id, entry)))
    before.settle(before.reserve_now(CAP - 10, "call"), CAP - 10)
    before.reserve_now(4, "in flight when it was killed")
    async with lease(store, run_id, 100, ledger="run/a", cap_nano=CAP) as ledger:
        with pytest.raises(CannotAfford):
            await ledger.reserve(7, "call")
        assert await ledger.reserve(6, "call")


async def test_a_run_and_its_workers_spend_one_cap_together(url):
    team, price = vote(["voter"] * 20, sampling=Sampling(max_tokens=4)), Price(10**9, 10**9, "stated")

    def opened(store, **purse):
        model = ScriptedModel(lambda request: "a b c", price=price)
        return Runtime.opened(
            "run", store=store, settings=Settings(model=model.name), models={model.name: model}, **purse
        )

    with Store.open(url) as store, Store.open(url) as elsewhere:
        async with (
            opened(store, cap_nano=400_000, lease_nano=20_000) as leader,
            lease(elsewhere, leader.run_id, 20_000, ledger="run/worker") as leased,
            opened(elsewhere, ledger=leased) as worker,
        ):
            plays = await asyncio.gather(
                *(runtime.play(team, "go", key=f"{n}") for n in range(2) for runtime in (leader, worker))
            )
        again = await asyncio.to_thread(live_leases, store, leader.run_id)
        whole, _ = booked(store, leader.run_id)
    assert again == set()
    assert any(isinstance(played.error, CannotAfford) for played in plays)
    assert 350_000 < whole.spent <= 400_000
    assert whole.spent == sum(played.paid_nano for played in plays)


async def test_a_resumed_leader_leases_again_and_knows_what_all_have_spent(url):
    team = chain(["only"], sampling=Sampling(max_tokens=4))
    model = ScriptedModel(lambda request: "a b c", price=Price(10**9, 10**9, "stated"))
    chosen = {"settings": Settings(model=model.name), "models": {model.name: model}, "cap_nano": 10**6}
    with Store.open(url) as store:
        async with Runtime.opened("run", store=store, lease_nano=50_000, **chosen) as leader:
            await leader.play(team, "go", key="0")
            async with lease(store, leader.run_id, 100, ledger="run/worker") as worker:
                worker.settle(await worker.reserve(77, "call"), 77)
            spent = leader.ledger.spent
        async with Runtime.opened("run", store=store, resume=leader.run_id, **chosen) as again:
            assert again.ledger.spent == spent + 77
            await again.play(team, "go", key="0")  # journalled
            assert again.ledger.spent == spent + 77
    assert len(model.requests) == 1


async def test_a_run_without_a_cap_has_no_part_to_lease(tmp_path):
    with Store.open(tmp_path / "store.sqlite") as store, pytest.raises(InputError, match="cap_nano"):
        async with lease(store, "nothing", 10):
            pass
