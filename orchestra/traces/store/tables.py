"""The tables of the store, once, for every database; and the inserts, compiled once per database.

Every table is append-only. `seq` gives the order of writing; indices begin with the run, so that rows of one run lie
together. Change a table only together with a migration in `orchestra/traces/store/schema.py`.
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

Index("facts_span", FACTS.c.run_id, FACTS.c.span_id)

_INSERT_FIRST_WINS = frozenset({"spans", "blobs", "cache"})
"""Tables where a second row of the same key is the same row again."""

WRITTEN: tuple[Table, ...] = (BLOBS, RUNS, JOURNAL, LEDGER, CACHE, FACTS, SPANS)
"""Tables rows are appended to; content before what refers to it."""


def columns_written(table: Table) -> tuple[str, ...]:
    """Names of the columns an insert into `table` gives, in order."""
    return tuple(column.name for column in table.columns if column.name != "seq")


def _insert(table: Table, dialect_name: str) -> Insert:
    if table.name not in _INSERT_FIRST_WINS:
        return table.insert()
    if dialect_name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def insert_statements(dialect: Dialect) -> Mapping[str, str]:
    """The insert of each table as the database's driver takes it, with positional parameters.

    Compiled once: building a statement anew costs several times what SQLite needs to execute it.
    """
    return {
        table.name: str(_insert(table, dialect.name).compile(dialect=dialect, column_keys=list(columns_written(table))))
        for table in WRITTEN
    }
