"""What became of the tasks a team was given."""

from collections.abc import Sequence
from dataclasses import dataclass

from orchestra.benchmarks.tasks import Task
from orchestra.execution.ending import FINISHED, PAUSED, RAN_OUT, state_after
from orchestra.execution.forecast import Actual, Forecast
from orchestra.execution.people import Question
from orchestra.execution.played import Played
from orchestra.ledger import show_usd, usd


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What became of one task."""

    task_id: str
    reply: str | None
    """Of a team that did not finish, the best there is of one."""
    partial: bool
    """Whether the team did not finish and `reply` is what there was of one."""
    state: str
    """`finished`, `failed`, `paused` or `ran-out`."""
    error: str | None
    """`None` when the team finished."""
    faults: tuple[str, ...]
    """Tools that failed without ending the episode."""
    score: float | None
    """`None` when the task has no target, or waits for a person."""
    paid_nano: int
    list_nano: int
    seconds: float

    @classmethod
    def of(cls, task: Task, played: Played, score: float | None) -> "Row":
        """The row of a task that was played."""
        return cls(
            task_id=task.id,
            reply=played.reply,
            partial=played.partial,
            state=state_after(played.error),
            error=None if played.error is None else str(played.error),
            faults=played.faults,
            score=score,
            paid_nano=played.paid_nano,
            list_nano=played.spent.list_nano,
            seconds=played.latency_seconds,
        )

    def document(self) -> dict[str, object]:
        """As plain JSON; money in USD."""
        return {
            "task": self.task_id,
            "reply": self.reply,
            "partial": self.partial,
            "state": self.state,
            "error": self.error,
            "faults": list(self.faults),
            "score": self.score,
            "paid_usd": str(usd(self.paid_nano)),
            "list_usd": str(usd(self.list_nano)),
            "seconds": round(self.seconds, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """Every task of one run."""

    run_id: str
    rows: tuple[Row, ...]
    """Empty when the run waits for answers and none came."""
    paid_nano: int
    questions: Sequence[Question] = ()
    """What a person has to answer before it can go on, in the order answers are given."""
    forecast: Forecast | None = None
    """What was foreseen when it began; `None` when nothing was."""
    actual: Actual | None = None
    """What it came to, as far as that was foreseen."""

    @property
    def ran_out(self) -> bool:
        """Whether money or time stopped it before the end."""
        return any(row.state == RAN_OUT for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 done, 4 a person has to answer, 3 money or time ran out, 1 an episode failed."""
        if self.questions or any(row.state == PAUSED for row in self.rows):
            return 4
        if self.ran_out:
            return 3
        return 0 if all(row.state == FINISHED for row in self.rows) else 1

    def document(self) -> dict[str, object]:
        """As one JSON document; money in USD."""
        return {
            "run_id": self.run_id,
            "paid_usd": str(usd(self.paid_nano)),
            "ran_out": self.ran_out,
            "forecast": self.forecast.against(self.actual) if self.forecast and self.actual else None,
            "questions": [question.document() for question in self.questions],
            "episodes": [row.document() for row in self.rows],
        }

    def footer(self) -> str:
        """Cost, time, and where the trace is; then, of a run that finished, whether that was foreseen."""
        scores = [row.score for row in self.rows if row.score is not None]
        success = f"{sum(scores):g} of {len(scores)} right · " if scores else ""
        waiting = sum(row.state == PAUSED for row in self.rows)
        paused = f"{waiting} waiting for a person · " if waiting > 1 else ""
        seconds = sum(row.seconds for row in self.rows)
        finished = all(row.state == FINISHED for row in self.rows)
        foreseen = self.forecast.verdict(self.actual) if self.forecast and self.actual and finished else ""
        line = f"{success}{paused}{show_usd(self.paid_nano)} · {seconds:.1f} s · orchestra traces show {self.run_id}"
        return f"{line}\n{foreseen}" if foreseen else line
