import json
import subprocess
import sys

import pytest

from orchestra.cli import SUMMARIES, exit_code, main, overview
from orchestra.errors import BudgetError, CannotAfford, InputError, ModelError, UnknownPrice

STRANGER = '''
from typing import Annotated
import typer
import graphs
from orchestra.errors import CannotAfford, InputError, ModelError

ERRORS = {
    "input": InputError("no such file 'x'; give one that exists"),
    "file": graphs.InvalidFile("team.yaml", ["rubbish"]),
    "budget": CannotAfford("the call never fits"),
    "model": ModelError("the server is down"),
    "bug": KeyError("oops"),
    "ctrl-c": KeyboardInterrupt(),
}

def greet(name: str, times: Annotated[int, typer.Option()] = 1, json: bool = False) -> None:
    """Say hello."""
    print("hello " * times + name)

def fail(kind: str, json: bool = False) -> None:
    """Raise."""
    raise ERRORS[kind]

def paused() -> int:
    return 4

def leave() -> None:
    raise typer.Exit(3)

many = typer.Typer()

@many.command()
def only(word: str) -> None:
    print(word.upper())

number = 7
'''


@pytest.fixture
def stranger(tmp_path, monkeypatch):
    """A distribution of somebody else's, with commands of its own."""
    (tmp_path / "stranger.py").write_text(STRANGER)
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stranger\nVersion: 1.0\n")
    names = ("greet", "fail", "paused", "leave", "many", "number")
    (info / "entry_points.txt").write_text(
        "[orchestra.commands]\n" + "".join(f"{name} = stranger:{name}\n" for name in names)
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("stranger", None)


def code_of(*arguments):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code


def test_a_plug_in_s_command_runs(stranger, capsys):
    assert code_of("greet", "you", "--times", "2") == 0
    assert capsys.readouterr().out == "hello hello you\n"


def test_a_group_of_one_command_keeps_its_name(stranger, capsys):
    assert code_of("many", "only", "word") == 0
    assert capsys.readouterr().out == "WORD\n"


@pytest.mark.parametrize(
    ("kind", "code"), [("input", 2), ("file", 2), ("budget", 3), ("model", 1), ("bug", 1), ("ctrl-c", 130)]
)
def test_what_went_wrong_decides_the_exit_code_and_shows_no_traceback(stranger, capsys, kind, code):
    assert code_of("fail", kind) == code
    said = capsys.readouterr()
    assert "Traceback" not in said.err
    assert said.out == ""
    assert said.err.strip()


@pytest.mark.parametrize(
    ("kind", "name"), [("input", "InputError"), ("bug", "KeyError"), ("ctrl-c", "KeyboardInterrupt")]
)
def test_a_failure_is_one_json_document_when_asked(stranger, capsys, kind, name):
    code = code_of("fail", kind, "--json")
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["type"], error["exit_code"]) == (name, code)


def test_a_usage_error_is_exit_code_2_and_names_the_option(stranger, capsys):
    assert code_of("greet", "you", "--tmes", "2") == 2
    assert "--tmes" in capsys.readouterr().err


def test_a_usage_error_too_is_json_when_asked(stranger, capsys):
    assert code_of("greet", "--json") == 2
    assert "name" in json.loads(capsys.readouterr().out)["error"]["message"].lower()


def test_a_traceback_is_shown_on_request(stranger, capsys, monkeypatch):
    assert code_of("fail", "bug", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err
    monkeypatch.setenv("ORCHESTRA_DEBUG", "1")
    assert code_of("fail", "bug") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("name", "code"), [("paused", 4), ("leave", 3)])
def test_a_command_may_choose_its_exit_code(stranger, name, code):
    assert code_of(name) == code


def test_an_unknown_command_is_answered_with_the_closest(stranger, capsys):
    assert code_of("gret") == 2
    assert "'greet'" in capsys.readouterr().err


def test_what_is_no_command_is_refused(stranger, capsys):
    assert code_of("number") == 2
    assert "int" in capsys.readouterr().err


def test_help_lists_every_command_without_importing_any(stranger, capsys):
    assert code_of("--help") == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("greet", "many", "compose", "doctor"))
    assert "stranger" not in sys.modules


def test_every_built_in_command_has_its_line():
    from orchestra import plugins

    assert set(SUMMARIES) == set(plugins.names("orchestra.commands"))
    assert all(line in overview() for line in SUMMARIES.values())


def test_a_command_s_own_help_names_it(stranger, capsys):
    assert code_of("greet", "--help") == 0
    assert "orchestra greet" in capsys.readouterr().out


def test_the_version_is_printed(capsys):
    from importlib.metadata import version

    assert code_of("--version") == 0
    assert capsys.readouterr().out == f"orchestra {version('orchestra-mas')}\n"


def test_an_unknown_price_is_bad_input_since_nothing_was_spent():
    assert exit_code(UnknownPrice("x")) == 2
    assert [exit_code(e) for e in (CannotAfford("x"), BudgetError("x"), ModelError("x"), InputError("x"))] == [
        3,
        3,
        1,
        2,
    ]


def test_a_reader_that_leaves_early_causes_no_complaint(stranger):
    code = "from orchestra.cli import main; main(['greet', 'you', '--times', '200000'])"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(stranger)!r}); {code}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as program:
        program.stdout.read(10)
        program.stdout.close()
        complaint = program.stderr.read()
    assert (program.returncode, complaint) == (1, b"")
