"""`orchestra traces`: what was run, as a list, as a tree, or as one JSON document."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from orchestra.cli import options
from orchestra.cli.console import console, errors
from orchestra.cli.traces_export import export_command
from orchestra.cli.traces_import import import_command
from orchestra.cli.traces_prune import prune_command
from orchestra.cli.traces_send import send_command

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text
    from rich.tree import Tree

    from orchestra.execution.forecast import Actual
    from orchestra.traces.episode import Episode, Transcript, Turn
    from orchestra.traces.records import RunRecord
    from orchestra.traces.summary import Figures, RunSummary

traces_app = typer.Typer(
    help="List, show and export what was run: tokens, cost and time.", no_args_is_help=True, add_completion=False
)

RunId = Annotated[str, typer.Argument(metavar="RUN_ID", help="The run, or the beginning of its id.")]

_TREES = 20  # episodes; more are shown as a table
_MARKS = {
    "finished": "[green]finished[/]",
    "failed": "[red]failed[/]",
    "cancelled": "[yellow]cancelled[/]",
    "paused": "[cyan]paused[/]",
    "ran-out": "[red]ran out[/]",
    "interrupted": "[yellow]interrupted[/]",
}

traces_app.command("export")(export_command)
traces_app.command("import")(import_command)
traces_app.command("prune")(prune_command)
traces_app.command("send")(send_command)


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
    episode: Annotated[
        str | None,
        typer.Option("--episode", metavar="ID", help="Only this episode, or those whose id begins so."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every episode as a tree, however many.")] = False,
    limit: Annotated[int, typer.Option(min=1, help="How many episodes to list.")] = 50,
    full: Annotated[bool, typer.Option("--full", help="Whole replies, not their first line.")] = False,
    store: options.StoreUrl = None,
    as_json: options.AsJson = False,
) -> None:
    """What a run did: few episodes as trees of their nodes, many as a table of their groups."""
    from dataclasses import asdict

    from orchestra.execution.forecast import kept_forecast
    from orchestra.traces.store import Store
    from orchestra.traces.summary import detailed, episode_figures, group_of, run_episodes, summary

    with Store.open(store, read_only=True) as opened:
        run = opened.run(opened.find_run(run_id))
        assert run is not None
        spans = opened.spans(run.run_id)
        one = summary(opened, run, spans=spans)
        found = run_episodes(opened, run.run_id, spans=spans, content=False)
        alone = len(found) == 1
        played = found if episode is None else _matching(found, episode, run.run_id)
        shown = played if every or as_json else played[:limit]
        as_trees = every or as_json or len(shown) <= _TREES
        if as_trees:  # only these show what was said
            shown = detailed(opened, shown, spans=spans, alone=alone)
        foreseen = kept_forecast(opened.facts(run.run_id))
    came_to = _came_to(found)
    if as_json:
        documents = [
            {"figures": asdict(episode_figures(episode)), "episode": episode.model_dump(mode="json")}
            for episode in shown
        ]
        compared = None if foreseen is None else foreseen.against(came_to)
        told = {"run": asdict(run), "summary": asdict(one), "forecast": compared, "episodes": documents}
        options.print_json(told)
        return
    head = _head(run, one, None if foreseen is None or one.state != "finished" else foreseen.verdict(came_to))
    example = repr(played[0].episode_id) if played else ""
    if as_trees:
        _print_tree(head, shown, full=full)
        _print_rest(len(played) - len(shown))
    elif len({group_of(episode) for episode in played}) > 1:
        _print_line(head)
        console().print(_group_table(played))
        errors().print(f"some of them: --episode {example}, or how it begins; all: --all", style="dim", markup=False)
    else:
        _print_line(head)
        console().print(_episode_table(shown))
        _print_rest(len(played) - len(shown))
        errors().print(f"one as a tree: --episode {example}; all: --all", style="dim", markup=False)


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
            f"{one.episodes:,}{failed}",
            f"{_brief(figures.input_tokens)} → {_brief(figures.output_tokens)}",
            _money(figures.paid_nano),
            _seconds(figures.seconds),
        )
    console().print(table)


def _matching(played: "tuple[Episode, ...]", wanted: str, run_id: str) -> "tuple[Episode, ...]":
    """The episode of that id, else those whose id, or whose task's, begins so."""
    from orchestra.errors import InputError

    for found in (
        tuple(one for one in played if one.episode_id == wanted),
        tuple(one for one in played if one.episode_id.startswith(wanted)),
        tuple(one for one in played if (one.task_id or "").startswith(wanted)),
    ):
        if found:
            return found
    example = f"such as {played[0].episode_id!r}" if played else "it has none"
    raise InputError(f"no episode {wanted!r} in run {run_id!r}; give the beginning of an id, {example}")


def _print_tree(head: str, shown: "tuple[Episode, ...]", *, full: bool) -> None:
    from rich.tree import Tree

    tree = Tree(head, guide_style="dim")
    several = len({episode.seats[0].team for episode in shown}) > 1
    for episode in shown:
        _add_episode(tree, episode, team=f" {episode.seats[0].team}" if several else "", full=full)
    if full:
        console().print(tree)
    else:
        _print_line(tree)


def _print_line(shown: "str | Tree") -> None:
    """Print, cutting what is longer than a line."""
    console().print(shown, no_wrap=True, overflow="ellipsis")


def _print_rest(more: int) -> None:
    if more > 0:
        errors().print(f"{more:,} more episode{'s' if more > 1 else ''}: --limit, or --all", style="dim")


def _came_to(played: "tuple[Episode, ...]") -> "Actual":
    """What episodes came to, as far as a forecast foresees it."""
    from orchestra.execution.forecast import Actual
    from orchestra.traces.summary import episode_figures

    figures = [episode_figures(episode) for episode in played]
    return Actual(
        model_calls=sum(one.calls for one in figures),
        tool_calls=sum(len(transcript.tool_uses) for episode in played for transcript in episode.transcripts),
        input_tokens=sum(one.input_tokens or 0 for one in figures),
        output_tokens=sum(one.output_tokens or 0 for one in figures),
        list_nano=sum(one.list_nano or 0 for one in figures),
    )


def _head(run: "RunRecord", one: "RunSummary", foreseen: str | None = None) -> str:
    """What the run was, how it ended, and what it came to."""
    from rich.markup import escape

    attempts = f" · {one.attempts} attempts" if one.attempts > 1 else ""
    lines = [f"[bold]{run.run_id}[/] {run.command} · {_MARKS[one.state]}{attempts}", _line(one.figures)]
    if one.state in ("failed", "ran-out") and one.error:
        lines.append(f"[red]{escape(one.error)}[/]")
    elif one.state == "interrupted":
        lines.append("[yellow]it never ended: it was killed, or is still going[/]")
    if foreseen is not None:
        lines.append(f"[dim]{escape(foreseen)}[/]")
    return "\n".join(lines)


def _group_table(played: "tuple[Episode, ...]") -> "Table":
    from rich.text import Text

    from orchestra.traces.summary import group_summaries

    table = _figures_table("group", "episodes")
    for group in group_summaries(played):
        failed = f" ([red]{group.failed} failed[/])" if group.failed else ""
        cells = _cells(group.score, group.figures)
        table.add_row(Text(group.group or "–"), f"{group.episodes:,}{failed}", *cells)
    return table


def _episode_table(shown: "tuple[Episode, ...]") -> "Table":
    from rich.text import Text

    from orchestra.traces.summary import episode_figures

    table = _figures_table("episode")
    for episode in shown:
        mark = Text("✗ ", style="red") if episode.error else Text("✓ ", style="green")
        table.add_row(
            mark.append(episode.episode_id, style="default"), *_cells(episode.score, episode_figures(episode))
        )
    return table


def _figures_table(*first: str) -> "Table":
    """An empty table of figures; a narrow one leaves the list price out, which the wide one and the trees have."""
    from rich.table import Table

    narrow = _narrow()
    table = Table(box=None, padding=(0, 1 if narrow else 2, 0, 0), pad_edge=False, header_style="dim")
    table.add_column(first[0], overflow="fold")
    for heading in (*first[1:], "score", "calls", "tokens", "paid", *(() if narrow else ("list",)), "latency"):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _narrow() -> bool:
    return console().width < 100


def _cells(score: float | None, figures: "Figures") -> list[str]:
    tokens = f"{_brief(figures.input_tokens)} → {_brief(figures.output_tokens)}" if figures.calls else "–"
    money = (figures.paid_nano,) if _narrow() else (figures.paid_nano, figures.list_nano)
    return [
        "–" if score is None else f"{score:.2f}",
        f"{figures.calls:,}",
        tokens,
        *(_money(nano) if figures.calls else "–" for nano in money),
        _seconds(figures.seconds),
    ]


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
        partial = ("(partial) ", "yellow") if episode.error else ""
        branch.add(Text.assemble(("→ ", "bold"), partial, _shortened(episode.output, full=full)))


def _add_node(branch: "Tree", transcript: "Transcript", seat: str, *, full: bool) -> None:
    """A node with what it said below it; one that had nothing to say is a line, without a branch."""
    from rich.markup import escape

    from orchestra.traces.summary import node_figures

    steps = [(turn.started_ns, _turn_lines(turn, full=full)) for turn in transcript.turns]
    for use in transcript.tool_uses:
        label = "" if use.name == transcript.node else f"{use.name}: "
        steps.append((use.started_ns, _lines(use.error, _said(use.result), label=label, full=full)))
    if not steps:
        steps = [(0, _lines(None, said, full=full)) for said in transcript.said]
    spoken = [line for _, lines in sorted(steps, key=lambda step: step[0]) for line in lines]
    kind = f" [dim]{transcript.kind}[/]" if transcript.kind else ""
    silent = "" if spoken else " · [dim]silent[/]"
    node = branch.add(f"{seat}[cyan]{escape(transcript.node)}[/]{kind} · {_line(node_figures(transcript))}{silent}")
    for line in spoken:
        node.add(line)


def _turn_lines(turn: "Turn", *, full: bool) -> "list[Text]":
    """Tries that failed, the reply or why there is none, and what was wrong with the count of its tokens."""
    from orchestra.ledger import nano, show_usd

    lines = []
    for attempt in turn.failed_attempts:
        owed = f" ({show_usd(nano(attempt.booked_usd))} booked)" if attempt.booked_usd else ""
        lines += _lines(None, attempt.error, label="failed try: ", after=owed, full=full, style="yellow")
    lines += _lines(turn.error, turn.reply or "", after=" (cached)" if turn.cached else "", full=full)
    if turn.usage_doubt is not None:
        lines += _lines(None, turn.usage_doubt, label="tokens: ", full=full, style="yellow")
    return lines


def _lines(
    error: str | None, said: str, *, label: str = "", after: str = "", full: bool, style: str = "dim"
) -> "list[Text]":
    """The line of something said, or of why it was not; none of silence."""
    from rich.text import Text

    if error is None and not said.strip():
        return []
    text = error if error is not None else _shortened(said, full=full)
    return [Text(f"{label}{text}{after}", style=style if error is None else "red")]


def _said(result: object) -> str:
    return result if isinstance(result, str) else "" if result is None else json.dumps(result, ensure_ascii=False)


def _shortened(text: str, *, full: bool) -> str:
    """On one line, unless `full`; the console cuts it to its width."""
    return text if full else " ".join(text.split())


def _line(figures: "Figures") -> str:
    parts = []
    if figures.calls:
        parts.append(f"{figures.calls:,} call{'s' if figures.calls > 1 else ''}")
        parts.append(f"{_count(figures.input_tokens)} → {_count(figures.output_tokens)} tokens")
        paid = _money(figures.paid_nano)
        listed = _money(figures.list_nano)
        parts.append(paid if paid == listed else f"{paid} paid of {listed}")
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
    if seconds >= 120:
        return f"{seconds / 60:.1f} min"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
