"""The version of a store, and how an older one becomes a newer one.

A fresh database gets the newest tables at once. An older one is brought up one version at a time, each step in the same
transaction as the new version number, so that a step happens once or not at all, whoever opens the store meanwhile. A
store written by a newer Orchestra is refused: guessing at it could lose records.
"""

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, inspect, select, update

from orchestra.errors import InputError
from orchestra.traces.store.tables import CHECKPOINT_WRITES, CHECKPOINTS, LEASES, METADATA, SCHEMA

SCHEMA_VERSION = 2
"""Version of the tables this module writes."""

READABLE_FROM = 1
"""Oldest version that is read as it stands, without being brought up to date: what came later are new tables."""

Migration = Callable[[Connection], None]


def _add_leases_and_checkpoints(connection: Connection) -> None:
    METADATA.create_all(connection, tables=[LEASES, CHECKPOINTS, CHECKPOINT_WRITES])


MIGRATIONS: Mapping[int, Migration] = {1: _add_leases_and_checkpoints}
"""By version: the step that leads from it to the next."""


def ensure_schema(
    connection: Connection,
    where: str,
    *,
    version: int = SCHEMA_VERSION,
    migrations: Mapping[int, Migration] = MIGRATIONS,
) -> None:
    """Create the tables, or bring them to `version`, inside the transaction `connection` is in.

    Args:
        connection: in a transaction that excludes other writers.
        where: names the store in messages.
        version: the version wanted.
        migrations: steps by the version they start from.

    Raises:
        InputError: when the database is not a store, or is a newer one.
    """
    found = stored_version(connection, where)
    if found is None:
        METADATA.create_all(connection)
        connection.execute(SCHEMA.insert().values(version=version))
        return
    check_version(found, where, version=version)
    for step in range(found, version):
        migrations[step](connection)
    if found != version:
        connection.execute(update(SCHEMA).values(version=version))


def stored_version(connection: Connection, where: str) -> int | None:
    """The version of the store behind `connection`; `None` when there is nothing yet.

    Raises:
        InputError: when tables are there that a store did not make.
    """
    tables = set(inspect(connection).get_table_names())
    if SCHEMA.name not in tables:
        # A PostgreSQL database may be shared; an SQLite file with someone else's tables is someone else's file.
        theirs = tables if connection.dialect.name == "sqlite" else tables & set(METADATA.tables)
        if theirs:
            listed = ", ".join(sorted(theirs)[:5])
            raise InputError(
                f"{where} is a database but not an Orchestra store (it has {listed}); name another with --store"
            )
        return None
    versions = connection.execute(select(SCHEMA.c.version)).scalars().all()
    if len(versions) != 1:
        raise InputError(f"{where} has {len(versions)} schema versions where one belongs; it is not an Orchestra store")
    return int(versions[0])


def check_version(found: int, where: str, *, version: int = SCHEMA_VERSION) -> None:
    """Refuse a store that is newer than `version`.

    Raises:
        InputError: when it is.
    """
    if found > version:
        raise InputError(
            f"{where} has schema version {found}, written by a newer Orchestra; this one reads up to {version}: "
            "upgrade orchestra-mas, or name another store with --store"
        )
