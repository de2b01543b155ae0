"""`orchestra graph`: draw a team."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

import graphs
from orchestra.errors import MissingExtra


class Format(StrEnum):
    """How a team may be drawn."""

    mermaid = "mermaid"
    dot = "dot"
    svg = "svg"
    png = "png"


_BY_SUFFIX = {".png": Format.png, ".svg": Format.svg, ".dot": Format.dot, ".gv": Format.dot}


def graph_command(
    team: Annotated[Path, typer.Argument(help="Team file, YAML or JSON.", show_default=False)],
    drawn_as: Annotated[
        Format | None,
        typer.Option("--format", help="Text (mermaid, dot) or a picture.", show_default="mermaid, or as --out ends"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write; a picture needs one.", show_default="standard output")
    ] = None,
) -> None:
    """Draw a team: who is in it, who hears whom, and what it costs."""
    graph = graphs.read(team)
    graphs.check(graph)
    wanted = drawn_as or (_BY_SUFFIX.get(out.suffix.lower()) if out else None) or Format.mermaid
    if wanted in (Format.png, Format.svg):
        _draw(graph, wanted, out)
        return
    from graphs import documents, drawing

    text = drawing.mermaid(graph) if wanted is Format.mermaid else drawing.dot(graph)
    if out is None:
        typer.echo(text, nl=False)
    else:
        documents.write_text(text, out)


def _draw(graph: graphs.AgentGraph, wanted: Format, out: Path | None) -> None:
    if out is None or out.suffix.lower() != f".{wanted}":
        where = "--out" if out is None else str(out)
        raise graphs.InvalidFile(where, [f"--format {wanted} writes a {wanted} file; say --out team.{wanted}"])
    from graphs import drawing

    try:
        drawing.figure(graph, out)
    except ImportError as cause:
        if cause.name != "matplotlib":
            raise
        raise MissingExtra("draw", "a picture") from cause
