"""Who carries out a run: one process at a time, known to every machine that uses the store.

The hold ends with the process that has it, `kill -9` included, so a killed run can be resumed at once and no time limit
has to be guessed. On SQLite it is the operating system's lock on a file beside the store; on PostgreSQL an advisory
lock of a session of its own.
"""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sqlalchemy import Engine, text

from orchestra.errors import InputError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl


class RunHeld(InputError):
    """Another process is carrying out the run."""


@contextmanager
def held(engine: Engine, run_id: str, where: str) -> Iterator[None]:
    """Hold `run_id` in the store of `engine` while the block runs.

    Args:
        where: names the store in messages.

    Raises:
        RunHeld: another holds it.
    """
    refusal = RunHeld(
        f"run {run_id!r} in {where} is being carried out by another process; wait until it ends, or stop it first"
    )
    name = hashlib.sha256(run_id.encode()).digest()
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as session:
            key = {"key": int.from_bytes(name[:8], "big", signed=True)}
            if not session.scalar(text("SELECT pg_try_advisory_lock(:key)"), key):
                raise refusal
            try:
                yield
            finally:
                session.execute(text("SELECT pg_advisory_unlock(:key)"), key)
        return
    database = engine.url.database
    if database and "uri" in engine.url.query:  # as a store that is only read is opened
        database = url2pathname(urlsplit(database).path)
    if not database or database == ":memory:":  # nobody else can open it
        yield
        return
    path = Path(f"{database}-run-{name.hex()[:16]}")
    descriptor = _locked(path)
    if descriptor is None:
        raise refusal
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path) -> int | None:
    """A descriptor with the lock of the file at `path`; `None` when another process has it."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            if sys.platform == "win32":
                msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        try:
            if os.fstat(descriptor).st_ino == path.stat().st_ino:
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # whoever had it took the file away in between
