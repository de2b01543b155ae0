"""The command `orchestra`: finds a subcommand, imports that one alone, and turns what it raises into an exit code.

Subcommands are plug-ins of the group `orchestra.commands`: a function with typer annotations, or a `typer.Typer` of
several. A command returns `None` or its exit code. Help of the whole is written from a table, so that asking for it
imports no command and no typer.

Exit codes: 0 done, 2 bad usage or input, 3 a budget ran out, 4 paused, 130 interrupted, 1 anything else. With `--json`
a failure, too, is one JSON document on standard output: `{"error": {"type", "message", "exit_code"}}`.
"""

import io
import json
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import cast

from orchestra import plugins
from orchestra.errors import BudgetError, InputError, OrchestraError, Paused

__all__ = ["main"]

GROUP = "orchestra.commands"
"""Entry point group of the subcommands."""

DONE, FAILED, BAD_INPUT, BUDGET_RAN_OUT, PAUSED, INTERRUPTED = 0, 1, 2, 3, 4, 130

_TRACERS_OF_OLD = ("LANGCHAIN_TRACING", "LANGCHAIN_HANDLER")
"""Set to anything, they make every graph of today's LangChain fail; ours are traced by us."""

SUMMARIES = {
    "compose": "Choose a team for tasks under a budget, by trying components on a real model.",
    "run": "Answer a question, or a file of tasks, with a team.",
    "train": "Train a team's agents by play or from what was recorded: LoRA adapters out.",
    "play": "Let teams play a game against each other or together, and count what came of it.",
    "evaluate": "Compare teams on a task file, with intervals and cost per task.",
    "graph": "Draw a team as mermaid, DOT, SVG or PNG.",
    "mcp": "Serve a team to MCP clients; list MCP servers' tools as components.",
    "traces": "List, show and export what was run: tokens, cost and time.",
    "models": "Bring, list and measure the models that run on this machine.",
    "serve": "Serve a model and its adapters with vLLM.",
    "proxy": "Keep what a model server knows of the calls of any application.",
    "schema": "Print the JSON Schema of a file format.",
    "doctor": "Say what is installed, which models answer, and what is in the way.",
}
"""One line per built-in command, in the order a newcomer meets them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code.

    Args:
        arguments: without the program's name; `None` reads them from the process.

    Raises:
        SystemExit: always.
    """
    raise SystemExit(execute(sys.argv[1:] if arguments is None else arguments))


def execute(arguments: Sequence[str]) -> int:
    """The exit code of one command line, after running it and reporting what went wrong."""
    words = list(arguments)
    for stream in (sys.stdout, sys.stderr):  # half of a letter, as texts cut elsewhere end in, is written as its number
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    for name in _TRACERS_OF_OLD:
        os.environ.pop(name, None)
    debug = os.environ.get("ORCHESTRA_DEBUG", "") not in ("", "0")
    while "--debug" in words[: words.index("--") if "--" in words else None]:
        words.remove("--debug")
        debug = True
    as_json = "--json" in words
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return _interrupted(as_json)
    except BrokenPipeError:
        # The reader went away (`orchestra traces list | head`); else the interpreter complains once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except Exception as error:
        if debug:
            traceback.print_exc()
        return _report(error, as_json=as_json, debug=debug)


def overview() -> str:
    """What `orchestra --help` prints: every installed command with one line; none of them is imported."""
    installed = plugins.names(GROUP)
    known = [name for name in SUMMARIES if name in installed]
    names = [*known, *sorted(set(installed) - set(known))]
    width = max((len(name) for name in names), default=0)
    lines = [f"  {name:<{width}}  {SUMMARIES.get(name, 'A plug-in; ask it with --help.')}" for name in names]
    return "\n".join(
        [
            "Usage: orchestra [--version] [--debug] COMMAND ...",
            "",
            "Compose a team of agents under a budget, run it on real models, trace every token and cent.",
            "",
            "Commands:",
            *lines,
            "",
            "Options:",
            "  --version  Print the version.",
            "  --debug    Show the traceback of an error (or set ORCHESTRA_DEBUG=1).",
            "  --help     Print this, or after a command that command's options.",
            "",
            "Exit codes: 0 done, 2 bad usage or input, 3 a budget ran out, 4 paused, 130 interrupted, 1 anything else.",
        ]
    )


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("--help", "-h", "help"):
        print(overview())
        return DONE
    if words[0] == "--version":
        print(f"orchestra {version('orchestra-mas')}")
        return DONE
    name, rest = words[0], words[1:]
    if name.startswith("-"):
        raise InputError(f"unknown option {name!r} before a command; see 'orchestra --help'")
    return _invoke(name, plugins.load(GROUP, name), rest)


def _invoke(name: str, plugin: object, rest: list[str]) -> int:
    import typer.core

    from orchestra.cli.several import spelled_out

    # ClickException: typer's own copy of click or the real one, whichever this version of typer raises.
    bases = typer.BadParameter.__mro__
    usage_error = cast("type[typer.BadParameter]", next(kind for kind in bases if kind.__name__ == "ClickException"))
    # Plain help: boxes squeeze the text into a few words a line on a terminal of 80 columns.
    if isinstance(plugin, typer.Typer):
        plugin.rich_markup_mode = None
        command: typer.core.TyperCommand | typer.core.TyperGroup = typer.main.get_group(plugin)
    elif callable(plugin):
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name)(plugin)
        command = cast("typer.core.TyperCommand", typer.main.get_command(app))
    else:
        raise InputError(f"the command {name!r} is a {type(plugin).__name__}; expected a function or a typer.Typer")
    try:
        code = command.main(
            args=spelled_out(rest, plugin), prog_name=f"orchestra {name}", standalone_mode=False, obj=tuple(rest)
        )
    except typer.Abort as cause:
        raise KeyboardInterrupt from cause
    except usage_error as error:
        if "--json" in rest:
            raise InputError(error.format_message()) from error
        error.show()
        return BAD_INPUT
    if code == INTERRUPTED:  # how typer reports Ctrl-C
        raise KeyboardInterrupt
    return code if isinstance(code, int) else DONE


def exit_code(error: Exception) -> int:
    """The exit code that tells what kind of error ended a command."""
    from graphs import GraphError

    # Input first: an unknown price under a cap is both, and nothing was spent.
    if isinstance(error, InputError | GraphError):
        return BAD_INPUT
    if isinstance(error, Paused):
        return PAUSED
    return BUDGET_RAN_OUT if isinstance(error, BudgetError) else FAILED


def _report(error: Exception, *, as_json: bool, debug: bool) -> int:
    code = exit_code(error)
    message = str(error) or type(error).__name__
    if code == FAILED and not isinstance(error, OrchestraError):
        message = f"{type(error).__name__}: {message}"
        if not debug:
            message += "\n(run it again with --debug to see where)"
    return _fail(type(error).__name__, message, code, as_json)


def _interrupted(as_json: bool) -> int:
    return _fail("KeyboardInterrupt", "interrupted; what was finished is in the store", INTERRUPTED, as_json)


def _fail(kind: str, message: str, code: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"error": {"type": kind, "message": message, "exit_code": code}}, ensure_ascii=False))
    print(message if code == INTERRUPTED else f"error: {message}", file=sys.stderr)
    return code
