"""`orchestra traces export`: whole runs as a file, for people, for other stores, or for other tools."""

import json
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.console import errors

if TYPE_CHECKING:
    from orchestra.traces.store import Store


class ExportFormat(StrEnum):
    """What a run is written as."""

    JSON = "json"
    JSONL = "jsonl"
    PARQUET = "parquet"


def export_command(
    run_ids: Annotated[
        list[str] | None, typer.Argument(metavar="RUN_ID...", help="The runs, or the beginnings of their ids.")
    ] = None,
    format: Annotated[
        ExportFormat,
        typer.Option(
            help="json: one document with the episodes. jsonl: everything, for `traces import`. "
            "parquet: tables of episodes and turns, into the folder --out."
        ),
    ] = ExportFormat.JSON,
    every: Annotated[bool, typer.Option("--all", help="Every run in the store.")] = False,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output if absent.")] = None,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Everything the store holds about runs, as a document, a lossless file or tables."""
    from orchestra.traces.store import Store

    with Store.open(store, read_only=True) as opened:
        ids = _chosen(opened, run_ids or [], every=every)
        write = {ExportFormat.JSON: _document, ExportFormat.JSONL: _lines, ExportFormat.PARQUET: _tables}[format]
        write(opened, ids, out, as_json)


def _chosen(store: "Store", prefixes: list[str], *, every: bool) -> list[str]:
    from orchestra.errors import InputError

    if every == bool(prefixes):
        raise InputError("say which runs to export: RUN_ID, or all of them with --all")
    return [run.run_id for run in store.runs(limit=None)] if every else [store.find_run(one) for one in prefixes]


def _document(store: "Store", ids: list[str], out: Path | None, as_json: bool) -> None:
    from orchestra.errors import InputError
    from orchestra.traces.summary import export
    from orchestra.traces.transfer import new_file

    if len(ids) != 1:
        raise InputError(f"a JSON document holds one run, not {len(ids)}; write several with --format jsonl")
    document = export(store, ids[0])
    if out is None:
        options.print_json(document)
        return
    with new_file(out) as stream:
        stream.write(json.dumps(document, indent=2) + "\n")
    told = {"out": str(out), "run_id": ids[0], "episodes": len(document["episodes"])}
    _say(told, f"wrote {out}: {len(document['episodes'])} episodes, {len(document['spans'])} spans", as_json)


def _lines(store: "Store", ids: list[str], out: Path | None, as_json: bool) -> None:
    import sys

    from orchestra.traces.transfer import new_file, write_jsonl

    if out is None:
        write_jsonl(store, ids, sys.stdout)
        return
    with new_file(out) as stream:
        exported = write_jsonl(store, ids, stream)
    rows = dict(exported.rows)
    told = {"out": str(out), "run_ids": list(exported.run_ids), "rows": rows}
    _say(told, f"wrote {out}: {len(ids)} runs, {sum(rows.values()):,} rows, {rows.get('spans', 0):,} spans", as_json)


def _tables(store: "Store", ids: list[str], out: Path | None, as_json: bool) -> None:
    from orchestra.errors import InputError
    from orchestra.traces.parquet import write_parquet

    if out is None:
        raise InputError("Parquet is written into a folder; name it with --out")
    rows = write_parquet(store, ids, out)
    told = {"out": str(out), "run_ids": ids, "rows": rows}
    _say(told, f"wrote {out}: {rows['episodes']:,} episodes, {rows['turns']:,} turns", as_json)


def _say(told: Mapping[str, object], line: str, as_json: bool) -> None:
    if as_json:
        options.print_json(dict(told))
    else:
        errors().print(line, markup=False)
