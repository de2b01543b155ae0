"""Leases: parts of a run's cap that several processes spend from, arbitrated by the database.

The table `leases` holds one row a run that is its *account* (`nano` is the cap, `spent_nano` what was spent before the
first lease), and one for every lease. Always true after every transaction, over all holders on all machines:

    account.spent_nano + spent_nano of closed leases + nano of open leases <= account.nano

as long as no call costs more than was reserved for it. From the first lease on, whoever spends on the run holds one.
A transaction begins by locking the account and by taking back what has expired: of a holder that died, what its
entries show as settled or unknown is booked, what they show as reserved is booked in full as unknown, and the rest is
free again. Who asks for more than is free waits in a row of its own, first in, first out; while somebody waits, the
others are told to hand back what they do not use. Times are the database's, where it has a clock.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection, case, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import SQLAlchemyError

from orchestra.errors import InputError, OrchestraError
from orchestra.ledger import Entry
from orchestra.traces.records import LedgerEntry
from orchestra.traces.store.rows import ledger_from
from orchestra.traces.store.store import Store
from orchestra.traces.store.tables import LEASES, LEDGER, columns_written

Result = TypeVar("Result")

ACCOUNT, OVERRUN, OPEN, CLOSED, WAITING = "account", "overrun", "open", "closed", "waiting"


class LeaseUnreachable(OrchestraError):
    """The database could not be asked; it may be asked again until the lease expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessee:
    """Who holds a lease, and on what."""

    run_id: str
    lease_id: str
    """What its reservations' ids begin with (`Ledger.tree_id`)."""
    ledger: str
    holder: str
    seconds: float
    """How long the lease holds after each visit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a visit found."""

    granted_nano: int = 0
    """Added to the lease."""
    most_nano: int = 0
    """What the lease could come to if all others gave back what they have not spent."""
    others_wait: bool = False
    """Whether somebody waits for what this lease does not use."""
    lost: str | None = None
    """Why nothing may be spent any more; `None` while it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a holder reports and asks for."""

    spent_nano: int
    keep_nano: int
    """What the lease shall be without more: at least what is spent and reserved."""
    least_nano: int = 0
    """Without so much more, somebody has to wait."""
    wanted_nano: int = 0
    overrun: bool = False


def share(store: Store, run_id: str, cap_nano: int) -> None:
    """Say what all leases of a run may come to together; said again, it is raised or lowered.

    Raises:
        LeaseUnreachable: the database could not be asked.
    """
    _asked(store, lambda connection: _open_account(connection, run_id, cap_nano))


def take(store: Store, lessee: Lessee, *, nano: int, cap_nano: int | None) -> Standing:
    """A new lease of up to `nano`.

    Args:
        store: holds the run.
        lessee: who takes it.
        nano: wanted to begin with; less is granted when less is free.
        cap_nano: what all leases of the run may come to together; `None` leaves it as it was said before.

    Raises:
        InputError: the run has no cap.
        LeaseUnreachable: the database could not be asked.
    """

    def work(connection: Connection) -> Standing:
        _open_account(connection, lessee.run_id, cap_nano)
        now = _now(connection)
        row = {"run_id": lessee.run_id, "ledger": lessee.ledger, "holder": lessee.holder, "taken_at": now}
        fresh = {"lease_id": lessee.lease_id, "nano": 0, "spent_nano": 0, "state": OPEN}
        connection.execute(insert(LEASES).values(**row, **fresh, expires_at=now + lessee.seconds))
        return _visited(connection, lessee, Wish(spent_nano=0, keep_nano=0, wanted_nano=nano))

    return _asked(store, work)


def visit(store: Store, lessee: Lessee, wish: Wish) -> Standing:
    """Renew a lease, hand back what it does not need, and ask for more.

    Raises:
        LeaseUnreachable: the database could not be asked.
    """
    return _asked(store, lambda connection: _visited(connection, lessee, wish))


def give_up(store: Store, lessee: Lessee, *, spent_nano: int, overrun: bool) -> None:
    """Close a lease; what was not spent is free again. One that was taken back stays as it is.

    Raises:
        LeaseUnreachable: the database could not be asked; the lease ends by expiring.
    """

    def work(connection: Connection) -> None:
        _lock_account(connection, lessee.run_id)
        mine = (LEASES.c.lease_id == lessee.lease_id) & (LEASES.c.state == OPEN)
        closed = {"state": CLOSED, "nano": spent_nano, "spent_nano": spent_nano}
        connection.execute(update(LEASES).where(mine).values(**closed))
        connection.execute(delete(LEASES).where(LEASES.c.lease_id == _queued(lessee.lease_id)))
        if overrun:
            _flag_overrun(connection, lessee.run_id)

    _asked(store, work)


def live_leases(store: Store, run_id: str) -> frozenset[str]:
    """Ids of the leases somebody holds, after taking back those that have expired.

    Raises:
        LeaseUnreachable: the database could not be asked.
    """

    def work(connection: Connection) -> frozenset[str]:
        if _lock_account(connection, run_id) is None:
            return frozenset()
        _reclaim(connection, run_id, _now(connection))
        held = select(LEASES.c.lease_id).where(LEASES.c.run_id == run_id, LEASES.c.state == OPEN)
        return frozenset(connection.execute(held).scalars())

    return _asked(store, work)


def is_leased(store: Store, run_id: str) -> bool:
    """Whether a lease was ever taken on the run, so that whoever spends on it must hold one."""

    def work(connection: Connection) -> bool:
        return _lock_account(connection, run_id) is not None

    return _asked(store, work)


def _asked(store: Store, work: Callable[[Connection], Result]) -> Result:
    try:
        return store.transact(work)
    except SQLAlchemyError as cause:
        raise LeaseUnreachable(f"{store.url} could not be asked for a lease: {cause}; mend it, then resume") from cause


def _visited(connection: Connection, lessee: Lessee, wish: Wish) -> Standing:
    account = _lock_account(connection, lessee.run_id)
    assert account is not None, "a lease is taken on an account"
    now = _now(connection)
    _reclaim(connection, lessee.run_id, now)
    mine = LEASES.c.lease_id == lessee.lease_id
    if connection.execute(select(LEASES.c.state).where(mine)).scalar() != OPEN:
        return Standing(lost=f"its lease expired before it was renewed, after {lessee.seconds:g} s, and was taken back")
    if wish.overrun:
        _flag_overrun(connection, lessee.run_id)
    if wish.overrun or account.state == OVERRUN:
        keep = {"nano": wish.keep_nano, "spent_nano": wish.spent_nano, "expires_at": now + lessee.seconds}
        connection.execute(update(LEASES).where(mine).values(**keep))
        return Standing(lost="a call of this run cost more than was reserved for it; see the `overrun` entry")
    lent, spent = _elsewhere(connection, lessee)
    queue = _queue(connection, lessee.run_id)
    own = _queued(lessee.lease_id)
    others = [waiting for waiting in queue if waiting != own]
    is_next = not queue or queue[0] == own or not others
    free = account.nano - account.spent_nano - lent - wish.keep_nano
    granted = 0
    if is_next and wish.wanted_nano > 0 and wish.least_nano <= free:
        granted = max(0, min(free, wish.least_nano if others else wish.wanted_nano))
    _take_place(connection, lessee, wish, now, waits=granted < wish.least_nano, queued=own in queue)
    changed = {"nano": wish.keep_nano + granted, "spent_nano": wish.spent_nano, "expires_at": now + lessee.seconds}
    connection.execute(update(LEASES).where(mine).values(**changed))
    most = account.nano - account.spent_nano - spent
    return Standing(granted_nano=granted, most_nano=most, others_wait=bool(others))


def _take_place(connection: Connection, lessee: Lessee, wish: Wish, now: float, *, waits: bool, queued: bool) -> None:
    """Stand in the queue, or leave it; who stands there keeps its place."""
    own = LEASES.c.lease_id == _queued(lessee.lease_id)
    until = now + lessee.seconds
    if waits and queued:
        connection.execute(update(LEASES).where(own).values(nano=wish.least_nano, expires_at=until))
    elif waits:
        row = {"run_id": lessee.run_id, "ledger": lessee.ledger, "holder": lessee.holder, "taken_at": now}
        place = {"lease_id": _queued(lessee.lease_id), "nano": wish.least_nano, "spent_nano": 0, "state": WAITING}
        connection.execute(insert(LEASES).values(**row, **place, expires_at=until))
    elif queued:
        connection.execute(delete(LEASES).where(own))


def _elsewhere(connection: Connection, lessee: Lessee) -> tuple[int, int]:
    """What all other leases hold, and what they have spent as far as is known; of a closed one both are the same."""
    held = case((LEASES.c.state == OPEN, LEASES.c.nano), else_=LEASES.c.spent_nano)
    others = select(func.coalesce(func.sum(held), 0), func.coalesce(func.sum(LEASES.c.spent_nano), 0)).where(
        LEASES.c.run_id == lessee.run_id,
        LEASES.c.state.in_((OPEN, CLOSED)),
        LEASES.c.lease_id != lessee.lease_id,
    )
    lent, spent = connection.execute(others).one()
    return int(lent), int(spent)


def _queue(connection: Connection, run_id: str) -> list[str]:
    waiting = select(LEASES.c.lease_id).where(LEASES.c.run_id == run_id, LEASES.c.state == WAITING)
    return list(connection.execute(waiting.order_by(LEASES.c.taken_at, LEASES.c.lease_id)).scalars())


def _queued(lease_id: str) -> str:
    return f"{lease_id}:waits"


def _account_id(run_id: str) -> str:
    return f"account:{run_id}"


def _lock_account(connection: Connection, run_id: str) -> Any:
    """The account of a run, which nobody else changes until this transaction ends; `None` when it has none."""
    return connection.execute(select(LEASES).where(LEASES.c.lease_id == _account_id(run_id)).with_for_update()).first()


def _open_account(connection: Connection, run_id: str, cap_nano: int | None) -> None:
    account = _lock_account(connection, run_id)
    if account is None:
        if cap_nano is None:
            raise InputError(f"run {run_id!r} has no cap that a part could be leased of; say it with `cap_nano`")
        begun = {"lease_id": _account_id(run_id), "run_id": run_id, "ledger": "run", "state": ACCOUNT, "holder": ""}
        row = {**begun, "nano": cap_nano, "spent_nano": _booked(_entries(connection, run_id))}
        dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
        connection.execute(
            dialect.insert(LEASES).values(**row, expires_at=0.0, taken_at=_now(connection)).on_conflict_do_nothing()
        )
        _lock_account(connection, run_id)
    elif cap_nano is not None and cap_nano != account.nano:
        mine = LEASES.c.lease_id == _account_id(run_id)
        connection.execute(update(LEASES).where(mine).values(nano=cap_nano))


def _flag_overrun(connection: Connection, run_id: str) -> None:
    connection.execute(update(LEASES).where(LEASES.c.lease_id == _account_id(run_id)).values(state=OVERRUN))


def _reclaim(connection: Connection, run_id: str, now: float) -> None:
    """Close the leases that have expired, by what their entries say."""
    late = (LEASES.c.run_id == run_id) & (LEASES.c.expires_at < now)
    for row in connection.execute(select(LEASES).where(late, LEASES.c.state == OPEN)).all():
        entries = _entries(connection, run_id, row.lease_id)
        spent = _booked(entries)
        for lost in _in_flight(entries):
            kept = (run_id, lost.ledger, lost.reservation_id, "unknown", lost.nano, lost.what, time.time())
            connection.execute(insert(LEDGER).values(dict(zip(columns_written(LEDGER), kept, strict=True))))
        if any(entry.event == "overrun" for entry in entries):
            _flag_overrun(connection, run_id)
        closed = {"state": CLOSED, "nano": spent, "spent_nano": spent}
        connection.execute(update(LEASES).where(LEASES.c.lease_id == row.lease_id).values(**closed))
    connection.execute(delete(LEASES).where(late, LEASES.c.state == WAITING))


def _entries(connection: Connection, run_id: str, lease_id: str | None = None) -> list[Entry]:
    columns = [LEDGER.c[name] for name in columns_written(LEDGER)]
    rows = select(*columns).where(LEDGER.c.run_id == run_id).order_by(LEDGER.c.seq)
    if lease_id is not None:
        rows = rows.where(LEDGER.c.reservation_id.startswith(f"{lease_id}-", autoescape=True))
    found: list[LedgerEntry] = [ledger_from(row) for row in connection.execute(rows)]
    return [record.entry for record in found]


def _in_flight(entries: list[Entry]) -> list[Entry]:
    """What was reserved and never closed."""
    standing: dict[str, Entry] = {}
    for entry in entries:
        if entry.event == "reserve":
            standing[entry.reservation_id] = entry
        elif entry.event != "overrun":
            standing.pop(entry.reservation_id, None)
    return list(standing.values())


def _booked(entries: list[Entry]) -> int:
    """What entries come to when whatever is in flight is lost in full; what is closed twice counts as closed first."""
    standing: dict[str, int] = {}
    total = 0
    for entry in entries:
        if entry.event == "reserve":
            standing[entry.reservation_id] = entry.nano
        elif entry.event != "overrun" and standing.pop(entry.reservation_id, None) is not None:
            total += entry.nano if entry.event != "release" else 0
    return total + sum(standing.values())


def _now(connection: Connection) -> float:
    """The database server's time; of SQLite, which has no server, this machine's."""
    if connection.dialect.name == "sqlite":
        return time.time()
    return float(connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())
