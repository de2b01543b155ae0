"""What opening a run, or going on with one, looks up and writes down."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime

from orchestra.errors import InputError
from orchestra.execution.recording import Recording, check_asked, opened_recording
from orchestra.execution.settings import Settings
from orchestra.ledger import Entry, Ledger
from orchestra.traces.store import LedgerEntry, Store


def new_run_id() -> str:
    """An id that sorts by time and can be typed, such as `20260801-093012-3f9c`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


@contextmanager
def begun(
    store: Store, command: str, inputs: Mapping[str, object], settings: Settings, resume: str | None
) -> Iterator[tuple[str, Recording | None]]:
    """The id of a run and its recording, held by this process until the block ends.

    Raises:
        InputError: there is no such run, it was given other inputs, another process is carrying it out, or its
            recording will not do.
    """
    check_asked(settings, resume)
    earlier = None if resume is None else store.find_run(resume)
    if earlier is not None:
        check_same(store, earlier, command, inputs)
    recording = opened_recording(settings)
    run_id = earlier or (recording and recording.run_id) or new_run_id()
    if recording is None:
        with store.hold(run_id):
            yield run_id, None
        return
    try:
        recording.begin(run_id, command, inputs, resumed=earlier is not None)
        if recording.run_id is not None and store.run(run_id) is not None:
            raise InputError(f"run {run_id!r} is in that store already; replay it with another --store, or with none")
        with store.hold(run_id):
            yield run_id, recording
    except BaseException:
        recording.abandon()
        raise
    recording.end()


def check_same(store: Store, run_id: str, command: str, inputs: Mapping[str, object]) -> None:
    """Refuse to resume a run with another command or other inputs than it was started with.

    Raises:
        InputError: naming what differs.
    """
    record = store.run(run_id)
    assert record is not None, "the id comes from the store"
    if record.command != command:
        raise InputError(f"run {run_id!r} is a {record.command!r}, not a {command!r}; resume it with that command")
    before = record.attributes
    changed = sorted(name for name in {*inputs, *before} if inputs.get(name) != before.get(name))
    if changed:
        raise InputError(
            f"run {run_id!r} was started with other {', '.join(changed)}; give the same, or start a new run"
        )


def run_ledger(store: Store, run_id: str, cap_nano: int | None, recording: Recording | None = None) -> Ledger:
    """The run's ledger, rebuilt from what earlier attempts wrote; what was in flight is booked in full."""
    past = (record.entry for record in store.ledger_entries(run_id))
    if recording is not None:
        return recording.ledger(cap_nano, past, lambda entry: _post(store, run_id, entry))
    ledger = Ledger(cap_nano, name="run", sink=lambda entry: _post(store, run_id, entry))
    ledger.replay(past)
    return ledger


def _post(store: Store, run_id: str, entry: Entry) -> None:
    store.post(LedgerEntry(run_id=run_id, entry=entry))
