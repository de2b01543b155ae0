"""Episodes as two flat tables in Parquet: one row an episode, one row a turn, each with the spans it comes from.

For looking at many runs with the tools of data people (pandas, DuckDB, Spark). It is a view, not a copy: the lossless
form is `orchestra.traces.transfer`. Money is nano-USD in whole numbers, times are nanoseconds since 1970; `null` means
not measured.
"""

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestra.errors import InputError, MissingExtra
from orchestra.traces.episode import Episode, Turn
from orchestra.traces.summary import episode_figures, group_of, run_episodes

if TYPE_CHECKING:
    from orchestra.traces.store import Store

_ROWS_AT_ONCE = 1000

EPISODE_COLUMNS: Mapping[str, str] = {
    "run_id": "string",
    "episode_id": "string",
    "group": "string",
    "trace_id": "string",
    "task_id": "string",
    "environment": "string",
    "input": "json",
    "output": "string",
    "team": "string",
    "team_hash": "string",
    "seats": "json",
    "score": "double",
    "scores": "json",
    "labels": "json",
    "error": "string",
    "error_type": "string",
    "calls": "int64",
    "input_tokens": "int64",
    "output_tokens": "int64",
    "paid_nano": "int64",
    "list_nano": "int64",
    "started_ns": "int64",
    "latency_seconds": "double",
}
"""Columns of the table of episodes and their types; `json` is text."""

TURN_COLUMNS: Mapping[str, str] = {
    "run_id": "string",
    "episode_id": "string",
    "trace_id": "string",
    "span_id": "string",
    "seat": "int64",
    "node": "string",
    "node_kind": "string",
    "turn": "int64",
    "round": "int64",
    "step": "int64",
    "state_key": "string",
    "messages": "json",
    "reply": "string",
    "tool_calls": "json",
    "prompt_token_ids": "ints",
    "reply_token_ids": "ints",
    "logprobs": "doubles",
    "model": "string",
    "provider": "string",
    "adapter": "string",
    "sampling": "json",
    "sample_index": "int64",
    "finish_reason": "string",
    "response_id": "string",
    "input_tokens": "int64",
    "output_tokens": "int64",
    "cached_input_tokens": "int64",
    "paid_nano": "int64",
    "list_nano": "int64",
    "cached": "bool",
    "reward": "double",
    "redacted": "bool",
    "error": "string",
    "started_ns": "int64",
    "latency_seconds": "double",
    "first_token_seconds": "double",
}
"""Columns of the table of turns and their types."""


def write_parquet(store: "Store", run_ids: Iterable[str], folder: Path) -> dict[str, int]:
    """Write `episodes.parquet` and `turns.parquet` into `folder`; the number of rows of each.

    Args:
        store: where the runs are.
        run_ids: whole ids.
        folder: made if it is not there.

    Raises:
        MissingExtra: without pyarrow.
        InputError: when the files cannot be written.
    """
    try:
        pyarrow: Any = importlib.import_module("pyarrow")
        importlib.import_module("pyarrow.parquet")
    except ModuleNotFoundError as cause:
        raise MissingExtra("parquet", "export to Parquet") from cause

    ids = tuple(dict.fromkeys(run_ids))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (
            _Table(pyarrow, folder / "episodes.parquet", EPISODE_COLUMNS) as episodes,
            _Table(pyarrow, folder / "turns.parquet", TURN_COLUMNS) as turns,
        ):
            for run_id in ids:
                played = run_episodes(store, run_id)
                episodes.add(map(_episode_row, played))
                turns.add(row for episode in played for row in _turn_rows(episode))
    except OSError as cause:
        raise InputError(f"{str(folder)!r} cannot be written: {cause.strerror or cause}; name another") from cause
    return {"episodes": episodes.rows, "turns": turns.rows}


class _Table:
    """A Parquet file that is written a thousand rows at a time."""

    def __init__(self, pyarrow: Any, path: Path, columns: Mapping[str, str]) -> None:
        types = {
            "string": pyarrow.string(),
            "json": pyarrow.string(),
            "int64": pyarrow.int64(),
            "double": pyarrow.float64(),
            "bool": pyarrow.bool_(),
            "ints": pyarrow.list_(pyarrow.int64()),
            "doubles": pyarrow.list_(pyarrow.float64()),
        }
        self._pyarrow = pyarrow
        self._schema = pyarrow.schema([(name, types[kind]) for name, kind in columns.items()])
        self._writer = pyarrow.parquet.ParquetWriter(str(path), self._schema, compression="zstd")
        self.rows = 0

    def __enter__(self) -> "_Table":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        coming = iter(rows)
        while some := [{k: _text(v) for k, v in row.items()} for row in islice(coming, _ROWS_AT_ONCE)]:
            self._writer.write_table(self._pyarrow.Table.from_pylist(some, schema=self._schema))
            self.rows += len(some)


def _episode_row(episode: Episode) -> dict[str, Any]:
    figures = episode_figures(episode)
    first = episode.seats[0] if episode.seats else None
    return {
        "run_id": episode.run_id,
        "episode_id": episode.episode_id,
        "group": group_of(episode),
        "trace_id": episode.trace_id,
        "task_id": episode.task_id,
        "environment": episode.environment,
        "input": _json(episode.input),
        "output": episode.output,
        "team": None if first is None else first.team,
        "team_hash": None if first is None else first.team_hash,
        "seats": _json([seat.model_dump(mode="json") for seat in episode.seats]),
        "score": episode.score,
        "scores": _json([score.model_dump(mode="json") for score in episode.scores]),
        "labels": _json([label.model_dump(mode="json") for label in episode.labels]),
        "error": episode.error,
        "error_type": episode.error_type,
        "calls": figures.calls,
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "paid_nano": figures.paid_nano,
        "list_nano": figures.list_nano,
        "started_ns": episode.started_ns,
        "latency_seconds": episode.latency_seconds,
    }


def _turn_rows(episode: Episode) -> Iterator[dict[str, Any]]:
    for transcript in episode.transcripts:
        for number, turn in enumerate(transcript.turns):
            place = {
                "run_id": episode.run_id,
                "episode_id": episode.episode_id,
                "trace_id": episode.trace_id,
                "seat": transcript.seat,
                "node": transcript.node,
                "node_kind": transcript.kind,
                "turn": number,
            }
            yield place | _turn_row(turn)


def _turn_row(turn: Turn) -> dict[str, Any]:
    same = ("span_id", "round", "step", "state_key", "reply", "model", "provider", "adapter", "sample_index")
    also = ("finish_reason", "response_id", "cached", "reward", "redacted", "error", "started_ns")
    timed = ("latency_seconds", "first_token_seconds")
    return {
        **{name: getattr(turn, name) for name in (*same, *also, *timed)},
        "messages": _json([message.model_dump(mode="json") for message in turn.messages]),
        "tool_calls": _json([call.model_dump(mode="json") for call in turn.tool_calls]),
        "prompt_token_ids": _listed(turn.prompt_token_ids),
        "reply_token_ids": _listed(turn.reply_token_ids),
        "logprobs": _listed(turn.logprobs),
        "sampling": _json(turn.sampling.model_dump(mode="json")),
        "input_tokens": turn.usage.input_tokens,
        "output_tokens": turn.usage.output_tokens,
        "cached_input_tokens": turn.usage.cached_input_tokens,
        "paid_nano": None if turn.paid_usd is None else int(turn.paid_usd.scaleb(9)),
        "list_nano": None if turn.list_usd is None else int(turn.list_usd.scaleb(9)),
    }


def _text(value: object) -> object:
    """Text without what is none elsewhere (lone surrogates, written as escapes); anything else as it is."""
    return value.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(value, str) else value


def _listed(values: Sequence[float] | None) -> list[float] | None:
    return None if values is None else list(values)


def _json(value: object) -> str | None:
    return None if value is None else json.dumps(value, ensure_ascii=True)
