"""Tasks: questions with the answers they should get, read from a JSONL file on this machine.

One JSON object per line; blank lines are passed over; the first line may be `{"schema_version": 1}`. Every mistake in a
file is told at once, with its line. What is always true: ids are unique, every scorer is known (one of the form
`module:function` is looked for when it is first used), and the split of a task depends on its id alone.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from graphs import InvalidFile
from graphs.documents import value_from
from graphs.model import Value
from orchestra.benchmarks.scorers import SCORERS, score, target_problem
from orchestra.errors import InputError
from orchestra.plugins import closest

__all__ = [
    "SCORERS",
    "Split",
    "Task",
    "check_ids",
    "of_split",
    "question",
    "read_tasks",
    "score",
    "split_of",
    "tasks_hash",
]

SCHEMA_VERSION = 1
"""Version of the task file this module reads."""
MOST_TOLD = 20
"""Mistakes that a message lists; of more, only their number is told."""

Split: TypeAlias = Literal["trial", "heldout"]
"""`trial`: a search may look at it; `heldout`: only the certificate does."""


class Task(Value):
    """One question."""

    id: str = Field(min_length=1)
    """Unique in its file."""
    input: str = Field(min_length=1)
    """What the team is asked."""
    target: str | None = None
    """What its reply is compared with; `None` means it cannot be scored."""
    scorer: str = "contains"
    """One of `SCORERS`, or `module:function`."""
    skills: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """What it takes; components are looked up by these."""
    split: Split | None = None
    """`None` leaves it to a hash of the id."""

    @model_validator(mode="after")
    def _scorer_fits(self) -> Self:
        if self.scorer not in SCORERS and ":" not in self.scorer:
            raise ValueError(f"unknown scorer {self.scorer!r}; {closest(self.scorer, SCORERS)}, or module:function")
        problem = target_problem(self.scorer, self.target)
        if problem is not None:
            raise ValueError(problem)
        return self


def read_tasks(path: Path | str) -> tuple[Task, ...]:
    """The tasks in the JSONL file at `path`, in order.

    Raises:
        InputError: when it is missing, empty, or wrong anywhere; the message lists every mistake with its line.
    """
    tasks: list[Task] = []
    mistakes: list[str] = []
    line_of: dict[str, int] = {}
    first = True
    for number, line in enumerate(_text(path).split("\n"), start=1):  # not splitlines: JSON may hold U+2028
        if not line.strip():
            continue
        try:
            data = _parsed(line)
            if not (first and _is_header(data)):
                task = value_from(data, Task, "task")
                if task.id in line_of:
                    raise InputError(
                        f"id {task.id!r} is that of line {line_of[task.id]}; give each task an id of its own"
                    )
                line_of[task.id] = number
                tasks.append(task)
        except InvalidFile as invalid:
            mistakes.extend(f"line {number}: {complaint}" for complaint in invalid.complaints)
        except InputError as mistake:
            mistakes.append(f"line {number}: {mistake}")
        first = False
    if not tasks and not mistakes:
        mistakes.append('holds no tasks; write one per line, such as {"id": "t1", "input": "2 + 2?", "target": "4"}')
    if mistakes:
        raise InputError(_told(str(path), mistakes))
    return tuple(tasks)


def question(text: str) -> Task:
    """The one task of a run that is given a question instead of a task file.

    Raises:
        InputError: it is empty, or no UTF-8, as a terminal with another encoding gives it.
    """
    check_text(text, "the question")
    if not text:
        raise InputError("the question is empty; give one, as in: orchestra run team.yaml 'What is 61 * 65?'")
    return Task(id="question", input=text)


def split_of(task: Task) -> Split:
    """Where `task` belongs: what it says, else one of two halves by a hash of its id, the same on every machine."""
    if task.split is not None:
        return task.split
    return "trial" if hashlib.sha256(task.id.encode()).digest()[0] < 128 else "heldout"


def of_split(tasks: Iterable[Task], split: Split | Literal["all"] | None) -> tuple[Task, ...]:
    """Those of `tasks` that belong to `split`, in order; `None` or `all` takes every one."""
    return tuple(task for task in tasks if split in (None, "all") or split_of(task) == split)


def check_text(text: str, what: str) -> None:
    """Refuse what no tokenizer can read.

    Raises:
        InputError: it holds halves of letters, as bytes that are no UTF-8 become.
    """
    try:
        text.encode()
    except UnicodeEncodeError as cause:
        raise InputError(f"{what} is no UTF-8 text (letter {cause.start + 1}); set the terminal to UTF-8") from None


def check_ids(tasks: Iterable[Task]) -> None:
    """Refuse tasks of which two have one id, such as those of two files put together.

    Raises:
        InputError: naming the id.
    """
    known: set[str] = set()
    for task in tasks:
        if task.id in known:
            raise InputError(f"two tasks have the id {task.id!r}; give each an id of its own, such as that of its file")
        known.add(task.id)


def tasks_hash(tasks: Sequence[Task]) -> str:
    """SHA-256 of the tasks in order: the same for the same tasks, however their file is written."""
    lines = (json.dumps(task.model_dump(mode="json"), sort_keys=True) for task in tasks)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _text(path: Path | str) -> str:
    if "://" in str(path):
        raise InputError(f"{path}: tasks are read from a file on this machine; download it first")
    path = Path(path)
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as cause:
        raise InputError(f"{path}: no such tasks file; check the path") from cause
    except IsADirectoryError as cause:
        raise InputError(f"{path}: is a folder; name the tasks file in it") from cause
    except UnicodeDecodeError as cause:
        raise InputError(f"{path}: is not UTF-8 text (byte {cause.start}); save it as UTF-8") from cause
    except OSError as cause:
        raise InputError(f"{path}: cannot be read: {cause.strerror or cause}") from cause


def _parsed(line: str) -> object:
    try:
        return json.loads(line, object_pairs_hook=_unrepeated)
    except json.JSONDecodeError as error:
        raise InputError(
            f"is not JSON (column {error.colno}): {error.msg[0].lower()}{error.msg[1:]}; write one JSON object per line"
        ) from None
    except RecursionError:
        raise InputError("is not a task: it is nested too deeply") from None


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise InputError(f"key {repeated!r} is written twice; keep one")
    return found


def _is_header(data: object) -> bool:
    """Whether this first line only states the schema version.

    Raises:
        InputError: when it states one that this program does not know.
    """
    if not isinstance(data, dict) or set(data) != {"schema_version"}:
        return False
    version = data["schema_version"]
    if type(version) is not int or not 1 <= version <= SCHEMA_VERSION:
        raise InputError(f"schema_version is {version!r}, and this program knows 1 to {SCHEMA_VERSION}; update it")
    return True


def _told(where: str, mistakes: Sequence[str]) -> str:
    if len(mistakes) == 1:
        return f"{where}, {mistakes[0]}" if mistakes[0].startswith("line ") else f"{where}: {mistakes[0]}"
    told = [f"\n  - {mistake}" for mistake in mistakes[:MOST_TOLD]]
    if len(mistakes) > MOST_TOLD:
        told.append(f"\n  - and {len(mistakes) - MOST_TOLD} more")
    return f"{where}: {len(mistakes)} mistakes{''.join(told)}"
