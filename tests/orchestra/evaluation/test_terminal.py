import io

import pytest
from rich.console import Console

from orchestra.evaluation.certificate import Certificate, Spend
from orchestra.evaluation.terminal import summary
from orchestra.evaluation.wording import percent_range


def shown(certificate, width=100):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    summary(certificate, console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [60, 80, 100, 200])
def test_it_never_exceeds_a_hundred_columns_nor_the_terminal(certificate, width):
    assert max(map(len, shown(certificate, width).splitlines())) <= min(width, 100)


def test_the_verdict_comes_first(certificate):
    assert shown(certificate).splitlines()[1].strip("│ ").startswith("Team better")


def test_arms_team_break_even_optimum_and_spend_are_told(certificate):
    text = shown(certificate)
    for word in ("identity", "roman-numerals", "search paid back", "the guarantee assumes", "together", "$398"):
        assert word in text


def test_brackets_in_names_are_text_not_style(certificate):
    rows = tuple(row.model_copy(update={"category": f"[red]{row.category}"}) for row in certificate.spend.rows)
    spend = certificate.spend.model_copy(update={"rows": rows})
    assert "[red]" in shown(certificate.model_copy(update={"spend": spend}))


def test_a_partial_certificate_says_what_is_missing(certificate):
    fields = {"headline": None, "break_even": (), "success": (), "components": (), "optimum": None}
    fields |= {"spend": Spend(rows=(), settled_usd=0), "incomplete": "the search budget ran out"}
    made = Certificate.model_validate(certificate.model_dump() | fields)
    text = shown(made)
    assert "No verdict" in text
    assert "Incomplete: the search budget ran out" in text
    assert "Incomplete" not in shown(made.model_copy(update={"verdict": "not certified: the search budget ran out"}))


@pytest.mark.parametrize("width", [80, 100])
def test_nothing_is_cut_even_with_large_figures(certificate, width):
    rows = tuple(
        row.model_copy(update={"calls": 123_456, "input_tokens": 2_345_678, "output_tokens": 1_345_678})
        for row in certificate.spend.rows
    )
    made = certificate.model_copy(update={"spend": certificate.spend.model_copy(update={"rows": rows})})
    text = shown(made, width)
    assert "…" not in text
    words = " ".join(text.split())
    for arm in certificate.success:
        assert all(word in words for word in arm.arm.split())
        assert percent_range(arm.interval) in text
    assert "2,345,678" in text
