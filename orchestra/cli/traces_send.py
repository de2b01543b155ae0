"""`orchestra traces send`: a stored run, to a collector that was not there when it ran."""

from typing import Annotated

import typer

from orchestra.cli import options


def send_command(
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="The run, or the beginning of its id.")],
    otlp: options.Otlp = None,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> int:
    """Send the spans of a stored run to a collector (OTLP over HTTP)."""
    from orchestra.errors import InputError
    from orchestra.traces.export_settings import traces_url
    from orchestra.traces.otlp import send_run
    from orchestra.traces.store import Store

    url = traces_url(otlp)
    if url is None:
        raise InputError("no collector is named; say which with --otlp URL, such as --otlp http://localhost:6006")
    with Store.open(store, read_only=True) as opened:
        exported = send_run(opened, run_id, url)
    if as_json:
        options.print_json(exported.document())
    else:
        options.say_exported(exported)
    return 1 if exported.dropped else 0
