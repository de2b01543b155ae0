"""Whole runs as a file of JSON lines, and back into any store: nothing is lost, and nothing is put in twice.

    {"format": "orchestra-traces", "version": 1, "schema": 2, "names": "...", "runs": [RUN_ID, ...]}
    {"table": "blobs", "digest": "sha256:...", "media": "json", "body": {"base64": "..."}}
    {"table": "runs", "run_id": ..., "command": ..., ...}
    ...
    {"end": true, "rows": 1234}

One row of the store a line, its content before it; the last line tells a whole file from a torn one. `READERS` says
which other files can be imported.
"""

import base64
import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from orchestra.errors import InputError
from orchestra.traces import names
from orchestra.traces.importing_otlp import is_otlp

if TYPE_CHECKING:
    from orchestra.traces.store import Store

FORMAT = "orchestra-traces"
FORMAT_VERSION = 1
"""Version of the lines this module writes."""


@dataclass(frozen=True, slots=True)
class Exported:
    """What a file was given."""

    run_ids: tuple[str, ...]
    rows: Mapping[str, int] = field(default_factory=dict)
    """By table."""


@dataclass(frozen=True, slots=True)
class Imported:
    """What came of an import."""

    format: str
    """Of the file, as `READERS` calls it."""
    run_ids: tuple[str, ...]
    rows: Mapping[str, int] = field(default_factory=dict)
    """Added, by table; what was there already is not counted."""
    notes: tuple[str, ...] = ()
    """What else a person should know, a sentence each."""


def write_jsonl(store: "Store", run_ids: Iterable[str], stream: IO[str]) -> Exported:
    """Write all the store holds about some runs.

    Args:
        store: where they are.
        run_ids: whole ids.
        stream: of text.
    """
    from orchestra.traces.store.copying import rows_of_run
    from orchestra.traces.store.schema import SCHEMA_VERSION
    from orchestra.traces.store.tables import TABLES_BY_NAME, columns_written

    ids = tuple(dict.fromkeys(run_ids))
    head = {"format": FORMAT, "version": FORMAT_VERSION, "schema": SCHEMA_VERSION, "names": names.VERSION}
    _write_line(stream, {**head, "runs": ids})
    columns = {name: columns_written(table) for name, table in TABLES_BY_NAME.items()}
    written: set[str] = set()
    count: dict[str, int] = {}
    for run_id in ids:
        for table, row in rows_of_run(store, run_id):
            if table == "blobs":
                if row[0] in written:
                    continue  # another run of this file refers to it too
                written.add(str(row[0]))
            count[table] = count.get(table, 0) + 1
            values = zip(columns[table], map(_jsonable, row), strict=True)
            _write_line(stream, {"table": table, **dict(values)})
    _write_line(stream, {"end": True, "rows": sum(count.values())})
    return Exported(ids, count)


def read_jsonl(store: "Store", path: Path) -> Imported:
    """Put the runs of a file that `write_jsonl` wrote into `store`; doing so twice changes nothing.

    Raises:
        InputError: when the file is torn, of a newer Orchestra, or not such a file; nothing is imported then.
    """
    from orchestra.traces.store.copying import restored, row_from

    head = _checked(path)
    rows = ((line.pop("table"), line) for line in _lines(path) if "table" in line)
    unpacked = ((table, row_from(table, {name: _plain(value) for name, value in line.items()})) for table, line in rows)
    return Imported("orchestra", tuple(head["runs"]), dict(restored(store, unpacked)))


def is_jsonl(first_line: str) -> bool:
    """Whether a file that begins so was written by `write_jsonl`."""
    try:
        head = json.loads(first_line)
    except ValueError:
        return False
    return isinstance(head, dict) and head.get("format") == FORMAT


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file that can be imported."""

    recognises: Callable[[str], bool]
    """Whether a file with this first line is one."""
    read: Callable[["Store", Path], Imported]
    """Puts it into a store."""


def read_otlp(store: "Store", path: Path) -> Imported:
    """Put the spans of an application, as an OpenTelemetry collector writes them to a file, into `store`.

    Raises:
        InputError: when a line is not OTLP in JSON; nothing is imported then.
    """
    from orchestra.traces.importing import import_file as import_spans

    came = import_spans(store, path)
    return Imported("otlp", (came.run_id,), {"spans": came.spans}, came.notes)


READERS: dict[str, Format] = {"orchestra": Format(is_jsonl, read_jsonl), "otlp": Format(is_otlp, read_otlp)}
"""By the name `--format` takes, in the order in which a file is offered to them."""


def import_file(store: "Store", path: Path, *, format: str | None = None) -> Imported:
    """Put what a file holds into `store`.

    Args:
        store: open for writing.
        path: the file.
        format: one of `READERS`; `None` looks at how the file begins.

    Raises:
        InputError: when it cannot be read, or nobody can read it.
    """
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            first = stream.readline(1_000_000)
    except OSError as cause:
        raise InputError(f"{str(path)!r} cannot be read: {cause.strerror or cause}") from cause
    if format is not None and format not in READERS:
        raise InputError(f"no format {format!r}; there are {', '.join(READERS)}")
    found = READERS[format] if format else next((one for one in READERS.values() if one.recognises(first)), None)
    if found is None:
        raise InputError(
            f"{str(path)!r} is not a file of traces: it begins with {first[:60]!r}; give one that "
            f"`orchestra traces export --format jsonl` wrote, or say what it is with --format ({', '.join(READERS)})"
        )
    return found.read(store, path)


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[IO[str]]:
    """A file that is there, whole, when the block has ended, and not at all when it has failed.

    Raises:
        InputError: when it cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("w", encoding="utf-8", newline="\n") as stream:
            yield stream
        beside.replace(path)
    except OSError as cause:
        raise InputError(
            f"{str(path)!r} cannot be written: {cause.strerror or cause}; name another with --out"
        ) from cause
    finally:
        beside.unlink(missing_ok=True)


def _checked(path: Path) -> dict[str, Any]:
    """The head of a file that was read to its end and found whole."""
    from orchestra.traces.store.schema import SCHEMA_VERSION
    from orchestra.traces.store.tables import TABLES_BY_NAME

    head: dict[str, Any] = {}
    count = 0
    last: dict[str, Any] = {}
    for number, line in enumerate(_lines(path)):
        last = line
        if number == 0:
            head = line
            if head.get("format") != FORMAT or head["version"] > FORMAT_VERSION or head["schema"] > SCHEMA_VERSION:
                raise InputError(
                    f"{str(path)!r} was not written by `orchestra traces export --format jsonl`, or by a newer "
                    "Orchestra: upgrade orchestra-mas"
                )
        elif "table" in line:
            count += 1
            if line["table"] not in TABLES_BY_NAME:
                raise InputError(f"{str(path)!r} line {number + 1} is of an unknown table {line['table']!r}")
    if not last.get("end") or last["rows"] != count:
        raise InputError(f"{str(path)!r} is torn: it ends after {count:,} rows without saying so; export it again")
    return head


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    try:
        with path.open(encoding="utf-8") as stream:
            for number, text in enumerate(stream, 1):
                try:
                    line = json.loads(text)
                except ValueError as cause:
                    raise InputError(f"{str(path)!r} line {number} is not JSON: {cause}; export it again") from cause
                if not isinstance(line, dict):
                    raise InputError(f"{str(path)!r} line {number} is not a row; export it again")
                yield line
    except UnicodeDecodeError as cause:
        raise InputError(f"{str(path)!r} is not text: {cause.reason}; export it again") from cause


def _write_line(stream: IO[str], line: Mapping[str, object]) -> None:
    stream.write(json.dumps(line, separators=(",", ":")) + "\n")


def _jsonable(value: object) -> object:
    return {"base64": base64.b64encode(value).decode("ascii")} if isinstance(value, bytes) else value


def _plain(value: object) -> object:
    return base64.b64decode(value["base64"]) if isinstance(value, dict) else value
