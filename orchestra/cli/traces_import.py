"""`orchestra traces import`: runs from a file into the store."""

from pathlib import Path
from typing import Annotated

import typer

from orchestra.cli import options
from orchestra.cli.console import errors


def import_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What `traces export --format jsonl` or a collector wrote.")
    ],
    format: Annotated[str | None, typer.Option(help="What it is; found out if absent.")] = None,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """Put runs from a file into the store; doing so twice changes nothing."""
    from orchestra.traces.store import Store
    from orchestra.traces.transfer import import_file

    with Store.open(store) as opened:
        imported = import_file(opened, file, format=format)
    rows = dict(imported.rows)
    if as_json:
        told = {"format": imported.format, "run_ids": list(imported.run_ids), "rows": rows}
        options.print_json({**told, "notes": list(imported.notes)})
        return
    named = ", ".join(imported.run_ids[:3]) + (f" and {len(imported.run_ids) - 3} more" * (len(imported.run_ids) > 3))
    added = (
        f"{sum(rows.values()):,} rows, {rows.get('spans', 0):,} spans" if any(rows.values()) else "all of it is there"
    )
    errors().print(f"imported {named or 'no run'}: {added}", markup=False)
    for note in imported.notes:
        errors().print(note, markup=False)
