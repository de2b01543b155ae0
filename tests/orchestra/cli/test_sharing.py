import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from orchestra.cli.sharing import spread


@dataclass(frozen=True, kw_only=True)
class Drawing:
    seed: Annotated[int, typer.Option(help="Seed of everything.")] = 0
    deterministic: Annotated[bool, typer.Option("--deterministic", help="Exact.")] = False


@spread
def command(team: Path, text: str, *, drawing: Drawing, store: str | None = None) -> int:
    """Do it."""
    print(team, text, drawing, store)
    return 0


def test_the_fields_take_the_place_of_the_argument():
    assert list(inspect.signature(command).parameters) == ["team", "text", "seed", "deterministic", "store"]


def test_typer_reads_them_and_the_command_gets_the_value(capsys):
    app = typer.Typer(add_completion=False)
    app.command()(command)
    app(["team.yaml", "why?", "--seed", "3", "--deterministic"], standalone_mode=False)
    assert capsys.readouterr().out == "team.yaml why? Drawing(seed=3, deterministic=True) None\n"


def test_the_help_of_a_field_is_the_help_of_its_option(capsys):
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(command)
    app(["--help"], standalone_mode=False)
    assert "Seed of everything." in capsys.readouterr().out
