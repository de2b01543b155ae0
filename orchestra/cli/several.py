"""Options that take several words: `--teams A B`, where typer's options take one word each.

A command says with `several` which of its options do; before typer reads a command line, the option is written again
in front of each of its words.
"""

from collections.abc import Callable, Sequence
from typing import Any

from orchestra.errors import InputError

_MARK = "options_of_several_words"


def several(*options: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Marks a command whose `options` take words until the next option begins.

    Args:
        options: as they are written, such as `--teams`; each may be given again, too.
    """

    def marked(command: Callable[..., Any]) -> Callable[..., Any]:
        setattr(command, _MARK, options)
        return command

    return marked


def spelled_out(words: Sequence[str], command: object) -> list[str]:
    """A command line with one word for each option.

    Raises:
        InputError: an option that takes several has none.

    >>> spelled_out(["kuhn-poker", "--teams", "cfr", "random", "--games", "9"], several("--teams")(lambda: None))
    ['kuhn-poker', '--teams', 'cfr', '--teams', 'random', '--games', '9']
    """
    options: tuple[str, ...] = getattr(command, _MARK, ())
    end = words.index("--") if "--" in words else len(words)
    said: list[str] = []
    option, waits = "", False
    for word in words[:end]:
        if word.startswith("-"):
            _check(option, waits)
            option = word.partition("=")[0] if word.partition("=")[0] in options else ""
            waits = word == option != ""
        elif option and not waits:
            said.append(option)
        else:
            waits = False
        said.append(word)
    _check(option, waits)
    return [*said, *words[end:]]


def _check(option: str, waits: bool) -> None:
    if waits:
        raise InputError(f"{option} needs at least one word after it")
