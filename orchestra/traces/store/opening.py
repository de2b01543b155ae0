"""From what a person names a store by to a database that is ready: paths, URLs, and what can be wrong with them.

`None` is the user's own store, a path is an SQLite file, a URL is what SQLAlchemy makes of it (SQLite or PostgreSQL).
SQLite runs in WAL mode with `synchronous=NORMAL`: a commit survives the death of the process, `kill -9` included; after
a power cut the last commits may be missing, but the file is whole.
"""

import os
import sqlite3
import sys
import time
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, NoSuchModuleError, OperationalError

from orchestra.errors import InputError, MissingExtra
from orchestra.traces.store.schema import READABLE_FROM, check_version, ensure_schema, stored_version
from orchestra.traces.store.tables import SCHEMA_LOCK

DEFAULT_FILE = "orchestra.sqlite"
"""Name of the user's own store in `data_folder`."""

PATIENCE_SECONDS = 60.0
"""How long a writer waits for another process that holds the store."""

Target = str | Path | None


def data_folder() -> Path:
    """The user's data directory for Orchestra on this platform; `XDG_DATA_HOME` wins everywhere."""
    xdg = os.environ.get("XDG_DATA_HOME")
    if xdg:
        return Path(xdg) / "orchestra"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "orchestra"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "orchestra"
    return Path.home() / ".local" / "share" / "orchestra"


def store_url(target: Target) -> URL:
    """What `target` means as a URL.

    Raises:
        InputError: when it looks like a URL and is none, or names a database Orchestra does not know.
    """
    if target is None:
        target = data_folder() / DEFAULT_FILE
    if isinstance(target, Path) or "://" not in target:
        return URL.create("sqlite", database=str(Path(target).expanduser().absolute()))
    try:
        url = make_url(target)
        backend = url.get_backend_name()
    except ArgumentError as cause:
        raise InputError(f"store {target!r} is not a URL: {cause}; give a path or postgresql://host/name") from cause
    if backend == "postgres":
        url, backend = url.set(drivername="postgresql"), "postgresql"
    if backend not in ("sqlite", "postgresql"):
        raise InputError(f"store {target!r}: {backend!r} is not supported; use a path, sqlite:/// or postgresql://")
    if backend == "postgresql" and url.drivername == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and url.database in (None, "", ":memory:"):
        raise InputError(f"store {target!r} would be lost with the process; name a file: sqlite:///orchestra.sqlite")
    return url


def shown(url: URL) -> str:
    """How messages name the store: an SQLite file by its path, a server without its password."""
    if url.get_backend_name() == "sqlite":
        return f"store {url.database!r}"
    return f"store {url.render_as_string(hide_password=True)!r}"


def open_engine(url: URL, *, read_only: bool = False) -> Engine:
    """An engine on a store of the present version, made or brought up to date as needed.

    Raises:
        InputError: when there is none to read, it cannot be reached or written, is not a store, or is a newer one.
    """
    where = shown(url)
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite:
        _check_file(Path(url.database or ""), where, read_only=read_only)
    engine = _sqlite_engine(url, read_only=read_only) if sqlite else _server_engine(url)
    try:
        with engine.connect() as connection:
            if read_only:
                _check_readable(connection, where)
                return engine
            stored_version(connection, where)  # someone else's file is refused before it is touched
            connection.rollback()
            if sqlite:
                _enter_wal(connection)
        with engine.connect().execution_options(orchestra_writes=True) as connection, connection.begin():
            if not sqlite:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({SCHEMA_LOCK})")
            ensure_schema(connection, where)
    except OperationalError as cause:
        engine.dispose()
        raise InputError(
            f"{where} cannot be {'read' if read_only else 'opened'}: {_reason(cause)}{_advice(cause, sqlite=sqlite)}"
        ) from cause
    except DatabaseError as cause:
        engine.dispose()
        raise InputError(f"{where} is not an Orchestra store: {cause.orig}; name another with --store") from cause
    except InputError:
        engine.dispose()
        raise
    return engine


def _check_file(path: Path, where: str, *, read_only: bool) -> None:
    if path.is_dir():
        raise InputError(f"{where} is a directory; name a file in it, such as {str(path / DEFAULT_FILE)!r}")
    if read_only:
        if not path.exists():
            raise InputError(f"{where} does not exist; nothing has been run with it yet")
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as cause:
        raise InputError(f"{where} cannot be made: {cause.strerror or cause}; name another with --store") from cause
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise InputError(f"{where} cannot be written: permission denied; name another with --store")


def _reason(cause: OperationalError) -> str:
    return " ".join(str(cause.orig).split())


def _advice(cause: OperationalError, *, sqlite: bool) -> str:
    reason = str(cause.orig)
    if not sqlite:
        return "; check that the server runs and lets you in, or name another with --store"
    if "locked" in reason:
        return "; another process holds it, try again when that has ended"
    if "readonly" in reason or "unable to open" in reason:
        return "; check that you may write to it and its directory, or name another with --store"
    return "; name another with --store"


def _check_readable(connection: Connection, where: str) -> None:
    found = stored_version(connection, where)
    if found is None:
        raise InputError(f"{where} is empty; nothing has been run with it yet")
    check_version(found, where)
    if found < READABLE_FROM:
        raise InputError(
            f"{where} has the older schema version {found}; open it once for writing to bring it up to date"
        )


def _sqlite_engine(url: URL, *, read_only: bool) -> Engine:
    connect_url = url
    if read_only:
        file = Path(url.database or "").absolute().as_uri()
        connect_url = url.set(database=file, query={"mode": "ro", "uri": "true"})
    engine = create_engine(connect_url, connect_args={"check_same_thread": False, "timeout": PATIENCE_SECONDS})

    @event.listens_for(engine, "connect")
    def _settings(connection: sqlite3.Connection, _: object) -> None:
        # Python's own transaction control would not cover table definitions; we say BEGIN ourselves.
        connection.isolation_level = None
        connection.execute("PRAGMA synchronous=NORMAL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that will write says so at once: one that finds out later can be refused instead of waiting.
        writes = connection.get_execution_options().get("orchestra_writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _server_engine(url: URL) -> Engine:
    try:
        # Positional parameters, so that rows are tuples for every database.
        return create_engine(url, paramstyle="format", pool_pre_ping=True)
    except ModuleNotFoundError as cause:
        raise MissingExtra("postgres", f"a PostgreSQL store ({shown(url)})") from cause
    except NoSuchModuleError as cause:
        raise InputError(f"{shown(url)}: no such driver; write postgresql://user@host/name") from cause


def _enter_wal(connection: Connection) -> None:
    """Put the file in WAL mode; on file systems that cannot, it stays in SQLite's default mode, slower but safe."""
    raw = connection.connection.dbapi_connection
    assert raw is not None
    deadline = time.monotonic() + PATIENCE_SECONDS
    while raw.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        # Two processes that make the same store at once: SQLite answers "locked" here without waiting.
        try:
            raw.execute("PRAGMA journal_mode=WAL").fetchone()
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
