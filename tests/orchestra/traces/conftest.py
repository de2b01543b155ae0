from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orchestra.ledger import Entry
from orchestra.traces import names
from orchestra.traces.spans import Tracer
from orchestra.traces.store import CheckpointRecord, CheckpointWrite, Fact, JournalEntry, LedgerEntry, RunRecord, Store


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite"


@pytest.fixture
def store(file: Path) -> Iterator[Store]:
    with Store.open(file) as opened:
        yield opened


def _play(store: Store, run_id: str, *, at: float = 1_785_576_612.0, state: str | None = "finished") -> None:
    store.post(RunRecord(run_id, "run", at, {"team": "é\0"}))
    tracer = Tracer(store, run_id)
    given = {names.EPISODE_ID: f"{run_id}/t", names.TASK_ID: "t", names.AGENT_NAME: "team", names.TEAM_HASH: "h"}
    with tracer.span("invoke_workflow team", attributes=given) as root:
        root.content(names.TASK_INPUT, "What is 2 + 2?")
        with tracer.span("invoke_agent writer", attributes={names.NODE: "writer", names.ROUND: 1}):
            used = {names.REQUEST_MODEL: "m", names.INPUT_TOKENS: 9, names.OUTPUT_TOKENS: 2, names.PAID_NANO: 1234}
            with tracer.span("chat m", attributes=used) as span:
                asked = [{"role": "user", "parts": [{"type": "text", "content": "What is 2 + 2?"}]}]
                said = [{"role": "assistant", "parts": [{"type": "text", "content": f"of {run_id}: lone \ud800, 4"}]}]
                span.content(names.INPUT_MESSAGES, asked)
                span.content(names.OUTPUT_MESSAGES, said)
                span.content(names.TOKEN_IDS, {"prompt": [1, 2], "reply": [52], "logprobs": [-0.1]})
        root.content(names.OUTPUT, "4")
    store.post(Fact(run_id, root.id, "score", 1.0, "scorer:x", at + 1))
    store.post(Fact(run_id, root.id, "score", 1.0, "scorer:x", at + 1))  # said twice is two facts
    reply = {"text": "4", "raw": store.blob(b"\x00\xff" * 100 + run_id.encode())}
    store.post(JournalEntry(run_id=run_id, key="c", event="begin", kind="model", reserved_nano=2000, at=at))
    store.post(JournalEntry(run_id=run_id, key="c", event="finish", kind="model", reply=reply, settled_nano=1, at=at))
    store.post(LedgerEntry(run_id, Entry("run", "1", "settle", 1234, "c", at)))
    place = {"thread_id": f"{run_id}/thread", "checkpoint_id": "1"}
    kept = ["b", store.blob(f"state of {run_id}".encode())]
    store.post(CheckpointRecord(**place, run_id=run_id, state={"z": 1, "a": kept}, metadata=["j", {}], at=at))
    store.post(CheckpointWrite(**place, task_id="task", index=0, channel="log", value=["j", [1]]))
    if state is not None:
        store.post(Fact(run_id, None, names.FACT_END, {"state": state, "error": None}, "orchestra", at + 2))
    store.flush_sync()


@pytest.fixture
def play_run() -> Callable[..., None]:
    """Writes a whole run into a store: `play_run(store, run_id, at=..., state=...)`."""
    return _play
