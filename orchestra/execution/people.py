"""Asking a person: the run pauses with the question written down, and goes on when the answer is.

A question is a call of the journal, of kind `person`, that was begun and is not finished. Asked for the first time it
is written down and ends the turn with `Paused`; whatever else the team can do goes on meanwhile. An answer finishes the
call, so that the resumed run finds it where a tool's reply would be.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from orchestra.benchmarks.tasks import check_text
from orchestra.errors import InputError, Paused
from orchestra.traces import names
from orchestra.traces.journal import Journal
from orchestra.traces.records import JournalEntry
from orchestra.traces.redaction import Redactor, cleaned
from orchestra.traces.store import Fact, Store

KIND = "person"
"""Kind of the journal entry of a question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a person is asked."""

    key: str
    """Of the call in the run's journal."""
    text: str
    node: str
    """Who asks."""
    episode_id: str
    task_id: str | None = None
    choices: tuple[str, ...] = ()
    """The answer must name one of these; empty takes any answer."""

    def document(self) -> dict[str, object]:
        """As plain JSON."""
        return {
            "key": self.key,
            "question": self.text,
            "node": self.node,
            "episode_id": self.episode_id,
            "task_id": self.task_id,
            "choices": list(self.choices),
        }


async def ask(journal: Journal, store: Store, question: Question) -> str:
    """What the person answered.

    Raises:
        Paused: nobody has answered yet.
    """
    answered = journal.finished(question.key)
    if answered is not None:
        return str(answered["said"])
    if not journal.was_interrupted(question.key):
        told = question.document()
        told |= {part: cleaned(told[part], journal.redact) for part in ("question", "choices")}
        asked = Fact(journal.run_id, None, names.FACT_QUESTION, told, "orchestra")
        store.post(asked)  # in order: whoever finds the journal's entry finds the question
        await journal.begin(question.key, KIND, sha256(question.text.encode()).hexdigest(), 0)
    raise Paused(question.text, question.key)


def open_questions(store: Store, run_id: str) -> tuple[Question, ...]:
    """What the run has asked and nobody has answered, in the order it was asked."""
    waiting: dict[str, None] = {}
    for entry in store.journal(run_id):
        if entry.kind == KIND and entry.event == "begin":
            waiting[entry.key] = None
        elif entry.kind == KIND:
            waiting.pop(entry.key, None)
    if not waiting:
        return ()
    told = (fact.value for fact in store.facts(run_id) if fact.name == names.FACT_QUESTION)
    asked = {str(value["key"]): value for value in told if isinstance(value, dict)}
    return tuple(
        Question(
            key=key,
            text=asked[key]["question"],
            node=asked[key]["node"],
            episode_id=asked[key]["episode_id"],
            task_id=asked[key]["task_id"],
            choices=tuple(asked[key]["choices"]),
        )
        for key in waiting
        if key in asked
    )


async def write_answers(store: Store, run_id: str, answers: Sequence[str], redact: Redactor | None = None) -> None:
    """Write down the answers to the open questions of a run, in the order of `open_questions`.

    Args:
        store: where the run is.
        run_id: which run waits.
        answers: in order.
        redact: shown every answer before it is written; the team then hears what was kept.

    Raises:
        Paused: there are questions and no answer.
        InputError: there are more or fewer answers than questions, or one names none of its choices or is no UTF-8.
    """
    for said in answers:
        check_text(said, "an answer")
    questions = open_questions(store, run_id)
    if questions and not answers:
        raise Paused(questions[0].text, questions[0].key)
    if len(answers) != len(questions):
        listed = "\n".join(["; give one --answer for each question, in this order:", *listing(questions)])
        raise InputError(
            f"run {run_id!r} waits for {_counted(len(questions), 'answer')}, and {_counted(len(answers), 'answer')} "
            f"came{listed if questions else '; leave --answer out'}"
        )
    for question, said in zip(questions, answers, strict=True):
        if question.choices and not set(chosen(said)) & set(question.choices):
            raise InputError(
                f"{said!r} is no answer to {question.node!r}; it chooses between {', '.join(question.choices)}"
            )
    await store.write(
        *(
            JournalEntry(
                run_id=run_id,
                key=question.key,
                event="finish",
                kind=KIND,
                reply={"said": cleaned(said, redact)},
                settled_nano=0,
            )
            for question, said in zip(questions, answers, strict=True)
        )
    )


def chosen(answer: str) -> list[str]:
    """The names in an answer that lists some, separated by commas."""
    return [name.strip() for name in answer.split(",") if name.strip()]


def listing(questions: Sequence[Question]) -> list[str]:
    """One line for each question, numbered."""
    return [
        f"  {number}. {question.task_id or question.episode_id}, {question.node}: {question.text}"
        for number, question in enumerate(questions, 1)
    ]


def _counted(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"
