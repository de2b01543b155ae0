"""A certificate as one HTML file: it opens anywhere, prints, and asks the network for nothing.

The page carries its style and its pictures, no script, and a policy that forbids loading anything. Every text of the
certificate is escaped on its way in (`orchestra.evaluation.markup`).
"""

import tempfile
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from graphs.documents import write_text
from graphs.model import AgentGraph
from orchestra.evaluation.certificate import ArmResult, Certificate, Headline, Trial
from orchestra.evaluation.markup import Markup, join, table, tag
from orchestra.evaluation.pictures import density_picture, difference_picture, spend_picture, success_picture
from orchestra.evaluation.stylesheet import STYLESHEET
from orchestra.evaluation.wording import (
    break_even,
    cash,
    equipment,
    number,
    number_range,
    optimum_lines,
    percent,
    percent_range,
    points,
    points_range,
    queries,
    samples,
    tone,
    verdict_parts,
)

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def write_report(certificate: Certificate, path: Path) -> None:
    """Write `certificate` as one HTML file."""
    write_text(html(certificate), path)


def html(certificate: Certificate) -> str:
    """`certificate` as one HTML page that needs nothing else."""
    title = f"Certificate: {certificate.team.graph.name}"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(STYLESHEET)),
    )
    parts = (_opening, _figures, _team, _success, _headline, _break_even, _components, _optimum, _spend, _settings)
    body = tag("main", *(part(certificate) for part in parts))
    return f"<!doctype html>\n{tag('html', head, tag('body', body), lang='en')}\n"


def _opening(certificate: Certificate) -> Markup:
    settings = certificate.settings
    found = certificate.headline
    word, why, missing = verdict_parts(certificate)
    return tag(
        "header",
        tag("h1", f"Certificate of the team “{certificate.team.graph.name}”"),
        tag("p", f"{settings.composer} · {settings.model} · {settings.finished:%d %B %Y, %H:%M %Z}", class_="meta"),
        tag("div", tag("p", word, class_="word"), tag("p", why, class_="why"), class_=f"verdict {tone(found)}"),
        tag("p", f"Incomplete: {missing}", class_="incomplete") if missing else None,
    )


def _figures(certificate: Certificate) -> Markup:
    team = certificate.team
    budget = f"of a budget of {equipment(team.budget_usd)}" if team.budget_usd is not None else "no budget was set"
    boxes = [
        ("equipment", equipment(team.equipment_usd), f"{budget}; {_count(len(team.components), 'component')}"),
        ("cash per task", cash(team.expected_cash_usd), "expected, at list prices"),
        ("search and evaluation", cash(certificate.spend.paid_usd), "cash paid, as the ledger has it"),
    ]
    if certificate.break_even:
        first = certificate.break_even[0]
        if first.outcome == "the baseline never succeeds":
            big, small = "–", f"the {first.against} never succeeds"
        else:
            counted = "queries, " if first.queries is not None else ""
            big, small = queries(first.queries), f"{counted}against the {first.against}"
        boxes.append(("search paid back after", big, small))
    else:
        boxes.append(("search paid back after", "–", "not measured"))
    return tag(
        "dl",
        *(tag("div", tag("dt", a), tag("dd", b, class_="big"), tag("dd", c, class_="small")) for a, b, c in boxes),
        class_="figures",
    )


def _team(certificate: Certificate) -> Markup:
    team = certificate.team
    trials = {trial.component: trial for trial in certificate.components if trial.decision == "accepted"}
    rows = [
        [
            name,
            equipment(trials[name].price_usd) if name in trials else "–",
            number(trials[name].fresh_value if trials[name].fresh_value is not None else trials[name].value)
            if name in trials
            else "–",
            ", ".join(trials[name].skills) if name in trials else "",
        ]
        for name in team.components
    ]
    return tag(
        "section",
        tag("h2", "The team"),
        tag(
            "p",
            f"{_count(len(team.graph.nodes), 'node')} and {_count(len(team.graph.channels), 'channel')}; "
            f"equipment {equipment(team.equipment_usd)}, expected cash {cash(team.expected_cash_usd)} per task.",
            class_="lead",
        ),
        _figure(team.graph),
        table(["component", "#price", "#value", "skills it was chosen for"], rows) if rows else None,
    )


def _figure(graph: AgentGraph) -> Markup:
    """The team as a picture where matplotlib is installed, else as a list of who hears whom."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "team.svg"
            _drawn(graph, file)
            picture = b64encode(file.read_bytes()).decode("ascii")
    except ImportError:
        lines = [f"{channel.source} → {channel.target}" for channel in graph.channels] or [graph.output]
        return tag("pre", "\n".join(lines))
    return tag(
        "div",
        tag("img", src=f"data:image/svg+xml;base64,{picture}", alt=f"the agent graph of {graph.name}"),
        class_="team-figure",
    )


def _drawn(graph: AgentGraph, file: Path) -> None:
    from graphs.drawing import figure  # matplotlib: half a second, and an extra

    figure(graph, file)


def _success(certificate: Certificate) -> Markup | None:
    results = certificate.success
    if not results:
        return None
    return tag(
        "section",
        tag("h2", "Success on held-out tasks"),
        tag(
            "p",
            "Share of tasks solved that the search never saw, with 95 % intervals. The single agents draw as many "
            "samples per task as the team's list cost buys, and vote on them as the team does.",
            class_="lead",
        ),
        success_picture(results),
        table(
            ["arm", "#success", "#tasks", "#samples", "#list/task", "#per success", "#list", "#paid", "#equipment"],
            [_arm_row(result) for result in results],
        ),
        join(tag("p", tag("b", r.arm), f": {r.description}", class_="note") for r in results if r.description),
    )


def _arm_row(result: ArmResult) -> list[object]:
    us = result.arm == "team"
    failures = tag("small", f"{result.failures} failed") if result.failures else None
    return [
        tag("b", result.arm, class_="arm-name us") if us else tag("span", result.arm, class_="arm-name"),
        join([percent(result.success), tag("small", percent_range(result.interval))]),
        join([f"{result.tasks:,}", failures]),
        samples(result.samples_per_task),
        cash(result.list_usd_per_task),
        cash(result.cost_of_pass_usd) if result.cost_of_pass_usd is not None else "never",
        cash(result.list_usd),
        cash(result.paid_usd),
        equipment(result.equipment_usd),
    ]


def _headline(certificate: Certificate) -> Markup | None:
    found = certificate.headline
    if found is None:
        return None
    return tag(
        "section",
        tag("h2", f"Team against {found.baseline}"),
        tag("p", f"{found.chosen_because.strip().rstrip('.').capitalize()}.", class_="lead"),
        difference_picture(found),
        tag("p", _comparison(found)),
        tag(
            "p",
            "“Team better” is said when the whole interval lies above 0, “single agent as good or better” when it "
            f"lies below the margin of {points(found.margin).lstrip('+')} points. "
            "Either is wrong in at most 5 % of repetitions, of one look: a verdict after more tasks needs tasks that "
            "were not in this one.",
            class_="note",
        ),
    )


def _comparison(found: Headline) -> str:
    return (
        f"Difference {points(found.difference)} points, 95 % interval {points_range(found.interval)}, on the same "
        f"{found.tasks:,} tasks: the team was ahead on {found.wins:,}, the {found.baseline} on {found.losses:,}, "
        f"level on {found.ties:,}. Verdict: {found.statement}."
    )


def _break_even(certificate: Certificate) -> Markup | None:
    entries = certificate.break_even
    if not entries:
        return None
    return tag(
        "section",
        tag("h2", "When the search has paid for itself"),
        tag(
            "p",
            f"The search cost {cash(entries[0].search_usd)}. It is paid back once as many successes would have cost "
            "that much more elsewhere.",
            class_="lead",
        ),
        tag(
            "dl",
            *(
                join(
                    [
                        tag("dt", f"against {entry.against}"),
                        tag("dd", tag("b", break_even(entry)), _never(entry.never_share)),
                    ]
                )
                for entry in entries
            ),
            class_="facts",
        ),
    )


def _never(share: float) -> str | None:
    return f" · never in {percent(share)} of bootstrap draws" if 0 < share < 1 else None


def _components(certificate: Certificate) -> Markup | None:
    trials = certificate.components
    if not trials:
        return None
    counts = [(kind, sum(t.decision == kind for t in trials)) for kind in ("accepted", "rejected", "skipped", "broken")]
    told = ", ".join(f"{many} {kind}" for kind, many in counts if many)
    marks = {kind: tag("span", class_=f"dot {kind}") for kind in ("accepted", "rejected", "skipped")}
    marks["broken"] = tag("span", "×", class_="x")
    key = [tag("li", marks[kind], kind) for kind, many in counts if many]
    if any(trial.threshold is not None for trial in trials):
        key.append(tag("li", tag("span", class_="dash"), "threshold"))
    return tag(
        "section",
        tag("h2", "Components tried"),
        tag("p", f"{_count(len(trials), 'component')} in order of arrival: {told}.", class_="lead"),
        tag("h3", "Value per dollar against the threshold"),
        tag("div", density_picture(trials), class_="density"),
        tag("ul", *key, class_="key"),
        table(
            ["component", "#value", "#fresh value", "#price", "#density", "#threshold", "decision", "why"],
            [_trial_row(trial) for trial in trials],
        ),
        tag(
            "p",
            "Value: mean gain of paired trials, the same queries with and without the component, with its 95 % "
            "interval. Fresh value: chosen components measured again on queries that did not choose them.",
            class_="note",
        ),
    )


def _trial_row(trial: Trial) -> list[object]:
    source = _count(trial.queries, "query", "queries") if trial.queries else None
    if trial.value_source == "similarity":
        source = "similarity, not tried"
    fresh = tag("small", number_range(trial.fresh_interval)) if trial.fresh_interval else None
    spread = tag("small", number_range(trial.interval)) if trial.interval else None
    return [
        join(
            [
                tag("span", trial.component, class_="component"),
                tag("small", ", ".join(trial.skills)) if trial.skills else None,
            ]
        ),
        join([number(trial.value), spread]),
        join([number(trial.fresh_value), fresh]),
        equipment(trial.price_usd),
        number(trial.density),
        number(trial.threshold),
        tag("span", trial.decision, class_=f"badge {trial.decision}"),
        tag("div", trial.reason, tag("small", source) if source else None, class_="reason"),
    ]


def _optimum(certificate: Certificate) -> Markup | None:
    lines = optimum_lines(certificate)
    if not lines:
        return None
    return tag("section", tag("h2", "How near the optimum"), _facts(lines))


def _spend(certificate: Certificate) -> Markup:
    spend = certificate.spend
    rows: list[Sequence[object]] = [
        [
            row.category,
            f"{row.calls:,}",
            f"{row.cached_calls:,}",
            f"{row.input_tokens:,}",
            f"{row.output_tokens:,}",
            cash(row.list_usd),
            cash(row.paid_usd),
        ]
        for row in spend.rows
    ]
    totals = [f"{sum(getattr(r, key) for r in spend.rows):,}" for key in _COUNTED]
    cap = f" under a cap of {cash(spend.cap_usd)}" if spend.cap_usd is not None else ""
    unknown = f" and {cash(spend.unknown_usd)} booked for calls that never reported" if spend.unknown_usd else ""
    return tag(
        "section",
        tag("h2", "Where the cash went"),
        tag(
            "p",
            f"The ledger settled {cash(spend.settled_usd)}{unknown}{cap}. The rows add up to it exactly.",
            class_="lead",
        ),
        spend_picture(certificate),
        table(
            ["category", "#calls", "#from cache", "#tokens in", "#tokens out", "#list", "#paid"],
            rows,
            foot=["together", *totals, cash(spend.list_usd), cash(spend.paid_usd)],
        ),
    )


_COUNTED = ("calls", "cached_calls", "input_tokens", "output_tokens")


def _settings(certificate: Certificate) -> Markup:
    settings = certificate.settings
    lines: list[tuple[str, object]] = [
        ("composer", settings.composer),
        ("seed", settings.seed),
        ("model", settings.model),
        ("fingerprint", tag("code", settings.fingerprint)),
        ("tasks", settings.tasks),
        ("inventory", settings.inventory),
        ("search budget", cash(settings.search_budget_usd) if settings.search_budget_usd is not None else "no cap"),
        ("started", f"{settings.started:%Y-%m-%d %H:%M:%S %Z}"),
        ("finished", f"{settings.finished:%Y-%m-%d %H:%M:%S %Z}"),
        ("run", tag("code", settings.run_id)),
        ("store", tag("code", settings.store) if settings.store else "–"),
    ]
    lines += [(name.replace("_", " "), _option(value)) for name, value in settings.options.items()]
    return join(
        [
            tag("section", tag("h2", "Settings"), _facts(lines)),
            tag(
                "footer",
                f"orchestra-mas {settings.version} · certificate version {certificate.schema_version} · "
                "two kinds of money, never added up: equipment prices and cash spent on calls",
            ),
        ]
    )


def _option(value: object) -> str:
    """A setting as a person would say it."""
    spoken = {True: "yes", False: "no", None: "–"}
    return spoken[value] if value is None or isinstance(value, bool) else str(value)


def _facts(lines: Sequence[tuple[str, object]]) -> Markup:
    return tag("dl", *(join([tag("dt", name), tag("dd", value)]) for name, value in lines), class_="facts")


def _count(many: int, one: str, several: str | None = None) -> str:
    return f"{many:,} {one if many == 1 else several or one + 's'}"
