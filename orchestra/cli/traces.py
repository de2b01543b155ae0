"""`orchestra traces`: what was run, as a list, as a tree, or as one JSON document."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.console import console, errors

if TYPE_CHECKING:
    from rich.tree import Tree

    from orchestra.traces.episode import Episode, Transcript
    from orchestra.traces.records import RunRecord
    from orchestra.traces.summary import Figures, RunSummary

traces_app = typer.Typer(
    help="List, show and export what was run: tokens, cost and time.", no_args_is_help=True, add_completion=False
)

RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="The run, or the beginning of its id.")]

_REPLY_WIDTH = 72
_MARKS = {"done": "[green]done[/]", "failed": "[red]failed[/]", "cut off": "[yellow]cut off[/]"}


@traces_app.command("list")
def list_command(
    limit: Annotated[int, typer.Option(min=1, help="How many, newest first.")] = 20,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """The runs in the store, newest first."""
    from dataclasses import asdict

    from orchestra.traces.store import Store
    from orchestra.traces.summary import summary

    with Store.open(store, read_only=True) as opened:
        summaries = [summary(opened, run) for run in opened.runs(limit)]
    if as_json:
        options.print_json([asdict(one) for one in summaries])
    elif summaries:
        _print_table(summaries)
    else:
        errors().print("no runs yet")


@traces_app.command("show")
def show_command(
    run_id: RunId,
    limit: Annotated[int, typer.Option(min=1, help="How many episodes.")] = 50,
    full: Annotated[bool, typer.Option("--full", help="Whole replies, not their first line.")] = False,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """A run as a tree: tokens, cost and time per episode and node."""
    from dataclasses import asdict

    from orchestra.traces.store import Store
    from orchestra.traces.summary import episode_figures, run_episodes, summary

    with Store.open(store, read_only=True) as opened:
        run = opened.run(opened.find_run(run_id))
        assert run is not None
        one = summary(opened, run)
        played = run_episodes(opened, run.run_id)
    if as_json:
        documents = [
            {"figures": asdict(episode_figures(episode)), "episode": episode.model_dump(mode="json")}
            for episode in played
        ]
        options.print_json({"run": asdict(run), "summary": asdict(one), "episodes": documents})
        return
    console().print(_tree(run, one, played[:limit], full=full))
    if len(played) > limit:
        errors().print(f"{len(played) - limit} more episodes: --limit {len(played)} shows them all", style="dim")


@traces_app.command("export")
def export_command(
    run_id: RunId,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output if absent.")] = None,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """A run as one JSON document: episodes, spans, content, facts, journal and ledger."""
    from orchestra.errors import InputError
    from orchestra.traces.store import Store
    from orchestra.traces.summary import export

    with Store.open(store, read_only=True) as opened:
        document = export(opened, run_id)
    if out is None:
        options.print_json(document)
        return
    try:
        out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as cause:
        raise InputError(
            f"{str(out)!r} cannot be written: {cause.strerror or cause}; name another with --out"
        ) from cause
    if as_json:
        options.print_json(
            {"out": str(out), "run_id": document["run"]["run_id"], "episodes": len(document["episodes"])}
        )
    else:
        errors().print(
            f"wrote {out}: {len(document['episodes'])} episodes, {len(document['spans'])} spans", markup=False
        )


def _print_table(summaries: "list[RunSummary]") -> None:
    from rich.table import Table

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("run", "command", "state"):
        table.add_column(heading, no_wrap=True)
    for heading in ("episodes", "tokens", "paid", "time"):
        table.add_column(heading, justify="right")
    for one in summaries:
        failed = f" ([red]{one.failed} failed[/])" if one.failed else ""
        figures = one.figures
        table.add_row(
            one.run_id,
            one.command,
            _MARKS[one.state],
            f"{one.episodes}{failed}",
            f"{_brief(figures.input_tokens)} → {_brief(figures.output_tokens)}",
            _money(figures.paid_nano),
            _seconds(figures.seconds),
        )
    console().print(table)


def _tree(run: "RunRecord", one: "RunSummary", played: "tuple[Episode, ...]", *, full: bool) -> "Tree":
    from rich.tree import Tree

    attempts = f" · {one.attempts} attempts" if one.attempts > 1 else ""
    tree = Tree(
        f"[bold]{run.run_id}[/] {run.command} · {_MARKS[one.state]}{attempts} · {_line(one.figures)}",
        guide_style="dim",
    )
    several = len({episode.seats[0].team for episode in played}) > 1
    for episode in played:
        _add_episode(tree, episode, team=f" {episode.seats[0].team}" if several else "", full=full)
    return tree


def _add_episode(tree: "Tree", episode: "Episode", *, team: str, full: bool) -> None:
    from rich.markup import escape
    from rich.text import Text

    from orchestra.traces.summary import episode_figures

    name = episode.task_id or episode.episode_id
    score = "" if episode.score is None else f" · score {episode.score:g}"
    mark = "[red]✗[/]" if episode.error else "[green]✓[/]"
    branch = tree.add(f"{mark} [bold]{escape(name)}[/]{escape(team)}{score} · {_line(episode_figures(episode))}")
    if episode.error:
        branch.add(Text(f"{episode.error_type}: {episode.error}", style="red"))
    for transcript in episode.transcripts:
        seat = f"seat {transcript.seat} · " if len(episode.seats) > 1 else ""
        _add_node(branch, transcript, seat, full=full)
    if episode.output is not None:
        branch.add(Text.assemble(("→ ", "bold"), _shortened(episode.output, full=full)))


def _add_node(branch: "Tree", transcript: "Transcript", seat: str, *, full: bool) -> None:
    from rich.markup import escape
    from rich.text import Text

    from orchestra.traces.summary import node_figures

    kind = f" [dim]{transcript.kind}[/]" if transcript.kind else ""
    node = branch.add(f"{seat}[cyan]{escape(transcript.node)}[/]{kind} · {_line(node_figures(transcript))}")
    steps = [(turn.started_ns, turn.error, turn.reply or "", "", turn.cached) for turn in transcript.turns]
    steps += [(use.started_ns, use.error, _said(use.result), f"{use.name}: ", None) for use in transcript.tool_uses]
    if not steps:
        steps = [(0, None, said, "", None) for said in transcript.said]
    for _, error, said, label, cached in sorted(steps, key=lambda step: step[0]):
        text = error if error is not None else _shortened(said, full=full)
        style = "red" if error is not None else "dim"
        node.add(Text(f"{label}{text}{' (cached)' if cached else ''}", style=style))


def _said(result: object) -> str:
    return result if isinstance(result, str) else "" if result is None else json.dumps(result, ensure_ascii=False)


def _shortened(text: str, *, full: bool) -> str:
    if full:
        return text
    line = " ".join(text.split())
    return line if len(line) <= _REPLY_WIDTH else line[: _REPLY_WIDTH - 1] + "…"


def _line(figures: "Figures") -> str:
    parts = []
    if figures.calls:
        parts.append(f"{figures.calls} call{'s' if figures.calls > 1 else ''}")
        parts.append(f"{_count(figures.input_tokens)} → {_count(figures.output_tokens)} tokens")
        paid = _money(figures.paid_nano)
        listed = _money(figures.list_nano)
        parts.append(paid if paid == listed else f"{paid} paid, {listed} uncached")
    parts.append(_seconds(figures.seconds))
    return " · ".join(parts)


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _brief(number: int | None) -> str:
    if number is None or number < 10_000:
        return _count(number)
    return f"{number / 1e3:.0f}k" if number < 1_000_000 else f"{number / 1e6:.1f}M"


def _money(nano: int | None) -> str:
    from orchestra.ledger import show_usd

    return "?" if nano is None else show_usd(nano)


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
