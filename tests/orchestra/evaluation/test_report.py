import re
from html.parser import HTMLParser
from itertools import pairwise

import pytest

from orchestra.evaluation import report
from orchestra.evaluation.certificate import Certificate, Spend
from orchestra.evaluation.markup import join, table, tag
from orchestra.evaluation.pictures import density_picture, spend_picture
from orchestra.evaluation.report import html, write_report

NASTY = "<script>alert('x')</script>\"&"
VOID = {"meta", "img", "br", "line", "circle", "rect", "path"}


class Outline(HTMLParser):
    """Checks that elements nest, and collects tags, addresses and text."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.addresses, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for key, value in attrs if key in ("src", "href", "xlink:href", "action")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def outline(page):
    found = Outline()
    found.feed(page)
    assert found.open == []
    return found


def changed(certificate, **fields):
    return Certificate.model_validate(certificate.model_dump() | fields)


def test_the_page_asks_the_network_for_nothing(certificate):
    page = html(certificate)
    found = outline(page)
    assert all(address.startswith("data:image/svg+xml;base64,") for address in found.addresses)
    assert {"script", "link", "iframe", "object"}.isdisjoint(found.tags)
    assert "default-src &#x27;none&#x27;" in page
    assert not re.search(r"url\(|@import", page)


def test_every_part_stands_on_the_page_in_order(certificate):
    headings = re.findall(r"<h2>(.*?)</h2>", html(certificate))
    assert headings == [
        "The team",
        "Success on held-out tasks",
        "Team against single agent with components",
        "When the search has paid for itself",
        "Components tried",
        "How near the optimum",
        "Where the cash went",
        "Settings",
    ]


def test_every_arm_component_and_category_is_named(certificate):
    text = " ".join(outline(html(certificate)).text).replace("\u00a0", " ")
    for name in (
        *(r.arm for r in certificate.success),
        *(t.component for t in certificate.components),
        *(r.category for r in certificate.spend.rows),
    ):
        assert name in text
    assert certificate.optimum.assumption in text


def test_nothing_a_person_wrote_becomes_markup(certificate):
    trial = certificate.components[0].model_copy(update={"reason": NASTY, "skills": (NASTY,)})
    arm = certificate.success[1].model_copy(update={"description": NASTY})
    settings = certificate.settings.model_copy(update={"tasks": NASTY, "options": {NASTY: NASTY}})
    graph = certificate.team.graph.model_copy(update={"name": NASTY})
    page = html(
        certificate.model_copy(
            update={
                "verdict": NASTY,
                "incomplete": NASTY,
                "components": (trial, *certificate.components[1:]),
                "success": (certificate.success[0], arm, *certificate.success[2:]),
                "settings": settings,
                "team": certificate.team.model_copy(update={"graph": graph}),
            }
        )
    )
    assert "<script" not in page
    assert "script" not in outline(page).tags


def test_a_partial_certificate_still_makes_a_page(certificate):
    partial = changed(
        certificate,
        headline=None,
        break_even=(),
        success=(),
        components=(),
        optimum=None,
        spend=Spend(rows=(), settled_usd=0),
        verdict="not certified",
        incomplete="the search budget ran out",
    )
    page = html(partial)
    outline(page)
    assert "Incomplete: the search budget ran out" in page


@pytest.mark.parametrize(
    ("rates", "tone"), [((0.83, 0.31), "better"), ((0.2, 0.5), "single"), ((0.35, 0.31), "undecided")]
)
def test_the_verdict_sets_the_tone(certificate_of, rates, tone):
    made = certificate_of(team_rate=rates[0], equipped_rate=rates[1])
    assert f'class="verdict {tone}"' in html(made)


def test_without_matplotlib_the_team_is_still_told(certificate, monkeypatch):
    monkeypatch.setitem(report.__dict__, "_drawn", _no_matplotlib)
    assert "calculator → writer" in html(certificate)


def _no_matplotlib(graph, file):
    raise ImportError("matplotlib")


def test_the_file_is_written_as_utf_8(certificate, tmp_path):
    write_report(certificate, tmp_path / "out.html")
    assert (tmp_path / "out.html").read_text(encoding="utf-8") == html(certificate)


def test_the_density_picture_takes_any_densities(certificate):
    first = certificate.components[0]
    odd = [
        first.model_copy(update={"density": d, "threshold": t})
        for d, t in ((None, None), (-1.0, None), (0.0, 0.0), (1e-9, 1e-12), (1e6, 1.0))
    ]
    outline(density_picture(odd))
    outline(density_picture(odd[:1]))


def test_a_search_that_cost_nothing_has_no_spend_picture(certificate):
    assert spend_picture(certificate.model_copy(update={"spend": Spend(rows=(), settled_usd=0)})) is None


def test_text_is_escaped_and_markup_is_not_escaped_twice():
    assert tag("b", "a<b") == "<b>a&lt;b</b>"
    assert join([tag("b", "x"), "&"]) == "<b>x</b>&amp;"
    assert tag("p", title='"') == '<p title="&quot;"></p>'
    assert 'class="number">1<' in table(["#n"], [["1"]])


def test_names_above_the_density_picture_never_cover_each_other(certificate):
    trial = next(t for t in certificate.components if t.decision == "accepted")
    skipped = trial.model_copy(update={"decision": "skipped"})
    accepted = (0, 1, 2, 3, 7, 50, 57, 58, 59, 62, 110, 117, 118, 119)
    drawn = density_picture([trial if i in accepted else skipped for i in range(120)])
    found = re.findall(r'<text x="([\d.]+)%" y="([-\d.]+)" dx="-?5" text-anchor="(\w+)" class="name">([^<]+)<', drawn)
    assert len(found) == len(accepted)
    rows = {}
    for x, y, anchor, name in found:
        assert float(y) < 0  # above the plot
        width = 2.3 * len(name)
        left = float(x) - (width if anchor == "end" else 0)
        assert 0 <= left <= 100 - width
        rows.setdefault(y, []).append((left, left + width))
    for spans in rows.values():
        spans.sort()
        assert all(one[1] <= other[0] for one, other in pairwise(spans))


def test_an_arm_that_never_succeeds_is_no_interval_of_queries(certificate):
    never = certificate.break_even[0].model_copy(
        update={"outcome": "the baseline never succeeds", "queries": None, "low": 1, "high": 1}
    )
    page = html(certificate.model_copy(update={"break_even": (never,)}))
    assert "<b>the baseline never succeeds</b>" in page
    assert "1 to 1" not in page
