"""The tables of the store, once, for every database; and the inserts, compiled once per database.

Every table but `leases` is append-only. `seq` gives the order of writing; indices begin with the run, so that rows of
one run lie together. Change a table only together with a migration in `orchestra/traces/store/schema.py`.
"""

from collections.abc import Mapping

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Float,
    Index,
    Insert,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects import postgresql, sqlite

METADATA = MetaData()


def _seq() -> Column[int]:
    # SQLite numbers rows by itself only for a column of type INTEGER.
    return Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True)


SCHEMA = Table("orchestra_schema", METADATA, Column("version", Integer, nullable=False))

RUNS = Table(
    "runs",
    METADATA,
    _seq(),
    Column("run_id", Text, nullable=False, index=True),
    Column("command", Text, nullable=False),
    Column("at", Float(53), nullable=False),
    Column("attributes", Text, nullable=False),
)

SPANS = Table(
    "spans",
    METADATA,
    _seq(),
    Column("run_id", Text, nullable=False),
    Column("trace_id", Text, nullable=False),
    Column("span_id", Text, nullable=False),
    Column("parent_id", Text),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("start_ns", BigInteger, nullable=False),
    Column("end_ns", BigInteger, nullable=False),
    Column("status", Text, nullable=False),
    Column("status_message", Text),
    Column("attributes", Text, nullable=False),
    Column("events", Text),
    Column("links", Text),
    Column("scope", Text, nullable=False),
    Column("resource", Text),
    UniqueConstraint("run_id", "span_id", name="spans_once"),
)

FACTS = Table(
    "facts",
    METADATA,
    _seq(),
    Column("run_id", Text, nullable=False, index=True),
    Column("span_id", Text),
    Column("name", Text, nullable=False),
    Column("value", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("at", Float(53), nullable=False),
)

BLOBS = Table(
    "blobs",
    METADATA,
    _seq(),
    Column("digest", Text, nullable=False, unique=True),
    Column("media", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
)

JOURNAL = Table(
    "journal",
    METADATA,
    _seq(),
    Column("run_id", Text, nullable=False, index=True),
    Column("key", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("request_hash", Text),
    Column("reserved_nano", BigInteger),
    Column("reply", Text),
    Column("settled_nano", BigInteger),
    Column("at", Float(53), nullable=False),
)

LEDGER = Table(
    "ledger",
    METADATA,
    _seq(),
    Column("run_id", Text, nullable=False, index=True),
    Column("ledger", Text, nullable=False),
    Column("reservation_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("nano", BigInteger, nullable=False),
    Column("what", Text, nullable=False),
    Column("at", Float(53), nullable=False),
)

CACHE = Table(
    "cache",
    METADATA,
    _seq(),
    Column("key", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("value_hash", Text, nullable=False),
    Column("at", Float(53), nullable=False),
)

LEASES = Table(
    "leases",
    METADATA,
    Column("lease_id", Text, primary_key=True),
    Column("run_id", Text, nullable=False, index=True),
    Column("ledger", Text, nullable=False),
    Column("nano", BigInteger, nullable=False),
    Column("spent_nano", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("holder", Text, nullable=False),
    Column("expires_at", Float(53), nullable=False),
    Column("taken_at", Float(53), nullable=False),
)
"""Parts of a ledger that processes of their own spend from; the one table whose rows change."""

_BYTEWISE = Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
"""Text that sorts by its bytes in every database, whatever language a server was set up for."""

CHECKPOINTS = Table(
    "checkpoints",
    METADATA,
    _seq(),
    Column("thread_id", _BYTEWISE, nullable=False),
    Column("checkpoint_ns", _BYTEWISE, nullable=False),
    Column("checkpoint_id", _BYTEWISE, nullable=False),
    Column("parent_id", _BYTEWISE),
    Column("run_id", Text, index=True),
    Column("state", Text, nullable=False),
    Column("metadata", Text, nullable=False),
    Column("at", Float(53), nullable=False),
)

CHECKPOINT_WRITES = Table(
    "checkpoint_writes",
    METADATA,
    _seq(),
    Column("thread_id", _BYTEWISE, nullable=False),
    Column("checkpoint_ns", _BYTEWISE, nullable=False),
    Column("checkpoint_id", _BYTEWISE, nullable=False),
    Column("task_id", _BYTEWISE, nullable=False),
    Column("task_path", _BYTEWISE, nullable=False),
    Column("idx", Integer, nullable=False),
    Column("channel", Text, nullable=False),
    Column("value", Text, nullable=False),
)

Index("facts_span", FACTS.c.run_id, FACTS.c.span_id)
for _table in (CHECKPOINTS, CHECKPOINT_WRITES):
    Index(f"{_table.name}_thread", _table.c.thread_id, _table.c.checkpoint_ns, _table.c.checkpoint_id)

WRITERS_LOCK = 7310579614
"""PostgreSQL advisory lock that every writer shares, and that whoever removes content takes alone."""

SCHEMA_LOCK = 7310579613
"""PostgreSQL advisory lock of whoever makes the tables or brings them up to date."""

INSERT_FIRST_WINS = frozenset({"spans", "blobs", "cache"})
"""Tables where a second row of the same key is the same row again."""

WRITTEN: tuple[Table, ...] = (
    BLOBS,
    RUNS,
    JOURNAL,
    LEDGER,
    CACHE,
    FACTS,
    SPANS,
    CHECKPOINTS,
    CHECKPOINT_WRITES,
)
"""Tables rows are appended to; content before what refers to it."""

TABLES_BY_NAME: Mapping[str, Table] = {table.name: table for table in WRITTEN}
"""Those tables by name."""


def columns_written(table: Table) -> tuple[str, ...]:
    """Names of the columns an insert into `table` gives, in order."""
    return tuple(column.name for column in table.columns if column.name != "seq")


def _insert(table: Table, dialect_name: str) -> Insert:
    if table.name not in INSERT_FIRST_WINS:
        return table.insert().inline()
    if dialect_name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing().inline()
    return sqlite.insert(table).on_conflict_do_nothing()


def insert_statements(dialect: Dialect) -> Mapping[str, str]:
    """The insert of each table as the database's driver takes it, with positional parameters.

    Compiled once: building a statement anew costs several times what SQLite needs to execute it.
    """
    return {
        table.name: str(_insert(table, dialect.name).compile(dialect=dialect, column_keys=list(columns_written(table))))
        for table in WRITTEN
    }
