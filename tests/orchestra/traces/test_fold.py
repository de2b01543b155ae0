import json
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from orchestra.traces import names
from orchestra.traces.episode import Episode, Message, Seat, ToolCall, TurnSampling, Usage
from orchestra.traces.fold import INTERRUPTED, episodes
from orchestra.traces.records import Fact, RunRecord, SpanRecord
from orchestra.traces.spans import Tracer

GOLDEN = Path(__file__).parents[2] / "golden" / "traces"


def text(role, content):
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def chat(tracer, node, said, **attributes):
    """A chat below a node, as the runtime writes it."""
    given = {names.OPERATION_NAME: "chat", names.REQUEST_MODEL: "local/m", **attributes}
    with (
        tracer.span(
            f"invoke_agent {node}",
            attributes={names.OPERATION_NAME: "invoke_agent", names.NODE: node, names.NODE_KIND: "agent"},
        ),
        tracer.span("chat local/m", attributes=given) as span,
    ):
        span.content(names.INPUT_MESSAGES, [text("system", "be brief"), text("user", "2 + 2?")])
        span.content(names.OUTPUT_MESSAGES, [{**text("assistant", said), "finish_reason": "stop"}])
    return span


def workflow(tracer, episode_id="run/t1", seat=0, **attributes):
    given = {names.EPISODE_ID: episode_id, names.SEAT: seat, names.AGENT_NAME: "team", **attributes}
    return tracer.span("invoke_workflow team", attributes={names.OPERATION_NAME: "invoke_workflow", **given})


def folded(store, *runs):
    runs = runs or ("r",)
    spans = [span for run in runs for span in store.spans(run)]
    facts = [fact for run in runs for fact in store.facts(run)]
    return episodes(spans, facts, store.blob_value)


@pytest.fixture
def tracer(store):
    return Tracer(store, "r")


def test_a_play_becomes_an_episode_with_everything_measured(tracer, store):
    with workflow(tracer, **{names.TASK_ID: "t1", names.TEAM_HASH: "abc"}) as root:
        root.content(names.TASK_INPUT, "2 + 2?")
        root.content(names.TEAM, {"name": "team"})
        with tracer.span("invoke_agent writer", attributes={names.NODE: "writer", names.ROUND: 2}):
            measured = {
                names.REQUEST_TEMPERATURE: 0.5,
                names.REQUEST_TOP_P: 0.9,
                names.REQUEST_TOP_K: 3,
                names.RESPONSE_MODEL: "m-1",
                names.PROVIDER_NAME: "local",
                names.ADAPTER: "a@3",
                names.INPUT_TOKENS: 9,
                names.OUTPUT_TOKENS: 2,
                names.PAID_NANO: 0,
                names.LIST_NANO: 1234,
                names.CACHED: True,
                names.SAMPLE_INDEX: 1,
                names.RESPONSE_FINISH_REASONS: ["stop"],
            }
            with tracer.span("chat m", attributes=measured) as span:
                span.content(names.INPUT_MESSAGES, [text("user", "2 + 2?")])
                span.content(names.OUTPUT_MESSAGES, [text("assistant", "4")])
                span.content(names.TOKEN_IDS, {"prompt": [1, 2], "reply": [52], "logprobs": [-0.5]})
        root.content(names.OUTPUT, "4")
    store.post(Fact("r", root.id, "score", 1.0, "scorer:numeric", 7.0))
    (episode,) = folded(store)
    assert (episode.episode_id, episode.run_id, episode.task_id, episode.input) == ("run/t1", "r", "t1", "2 + 2?")
    assert episode.error is None
    assert episode.score == 1.0
    assert episode.scores[0].source == "scorer:numeric"
    assert episode.seats == (
        Seat(seat=0, team="team", team_hash="abc", graph={"name": "team"}, adapters=("a@3",), output="4"),
    )
    (turn,) = episode.transcript("writer").turns
    assert turn.messages == (Message(role="user", content="2 + 2?"),)
    assert (turn.reply, turn.finish_reason, turn.model, turn.adapter, turn.round) == ("4", "stop", "m-1", "a@3", 2)
    assert (turn.prompt_token_ids, turn.reply_token_ids, turn.logprobs) == ((1, 2), (52,), (-0.5,))
    assert turn.sampling == TurnSampling(temperature=0.5, top_p=0.9, top_k=3)
    assert turn.usage == Usage(input_tokens=9, output_tokens=2)
    assert (turn.paid_usd, turn.list_usd, turn.cached) == (Decimal(0), Decimal("0.000001234"), True)
    assert (episode.paid_usd, episode.list_usd) == (Decimal(0), Decimal("0.000001234"))
    assert turn.trainable
    assert turn.latency_seconds > 0


def test_what_was_not_measured_is_none_and_zero_is_a_measurement(tracer, store):
    with workflow(tracer):
        chat(tracer, "a", "4", **{names.OUTPUT_TOKENS: 0})
    (turn,) = folded(store)[0].turns
    assert (turn.usage.input_tokens, turn.usage.output_tokens) == (None, 0)
    assert (turn.paid_usd, turn.list_usd, turn.reward, turn.logprobs, turn.cached) == (None,) * 5
    assert (folded(store)[0].paid_usd, folded(store)[0].list_usd) == (None, None)
    assert not turn.trainable
    assert folded(store)[0].score is None


def test_nodes_keep_their_order_and_tools_their_results(tracer, store):
    with workflow(tracer):
        with tracer.span("invoke_agent lookup", attributes={names.NODE: "lookup", names.NODE_KIND: "tool"}):
            used = {names.OPERATION_NAME: "execute_tool", names.TOOL_NAME: "search", names.TOOL_CALL_ID: "c1"}
            with tracer.span("execute_tool search", attributes=used) as span:
                span.content(names.TOOL_CALL_ARGUMENTS, {"input": "x"})
                span.content(names.TOOL_CALL_RESULT, "found")
        chat(tracer, "writer", "4")
    episode = folded(store)[0]
    assert [(one.node, one.kind, len(one.turns)) for one in episode.transcripts] == [
        ("lookup", "tool", 0),
        ("writer", "agent", 1),
    ]
    (use,) = episode.transcript("lookup").tool_uses
    assert (use.name, use.call_id, use.arguments, use.result) == ("search", "c1", {"input": "x"}, "found")
    with pytest.raises(KeyError):
        episode.transcript("nobody")


def test_what_a_node_without_a_model_passed_on_is_kept(tracer, store):
    with workflow(tracer):
        for number in range(2):
            with tracer.span("invoke_agent vote", attributes={names.NODE: "vote", names.NODE_KIND: "vote"}) as span:
                span.content(names.OUTPUT, f"answer {number}")
    assert folded(store)[0].transcript("vote").said == ("answer 0", "answer 1")


def test_a_failed_play_is_a_valid_episode(tracer, store):
    with workflow(tracer) as root:
        chat(tracer, "a", "4")
        root.fail(RuntimeError("nothing reached the output"))
    (episode,) = folded(store)
    assert (episode.error, episode.error_type) == ("nothing reached the output", "RuntimeError")
    assert len(episode.turns) == 1
    assert episode.output is None


def test_a_killed_run_folds_to_an_episode_with_an_error(store):
    store.post(RunRecord("r", "run", 5.0, {"task_id": "t1"}))
    (episode,) = folded(store)
    assert (episode.error, episode.error_type, episode.task_id) == (INTERRUPTED, "Interrupted", "t1")
    assert Episode.model_validate_json(episode.model_dump_json()) == episode


def test_an_episode_that_was_announced_and_never_ended_has_an_error(tracer, store):
    store.post(RunRecord("r", "evaluate", 5.0))
    for name in ("one", "two"):
        store.post(Fact("r", None, "start", {"episode_id": name, "task_id": f"task {name}"}, "orchestra", 6.0))
    with workflow(tracer, "one"):
        chat(tracer, "a", "4")
    assert [(one.task_id, one.error) for one in folded(store)] == [("task two", INTERRUPTED), (None, None)]


def test_the_spans_of_a_play_whose_root_never_ended_are_put_together(tracer, store):
    store.post(RunRecord("r", "run", 5.0))
    outer = workflow(tracer)
    outer.__enter__()
    chat(tracer, "a", "4")
    (episode,) = folded(store)
    outer.__exit__(None, None, None)
    assert (episode.episode_id, episode.error) == ("run/t1", INTERRUPTED)
    assert [turn.reply for turn in episode.turns] == ["4"]
    assert episode.latency_seconds is None


def test_a_killed_episode_keeps_what_was_said_before_another_one_began(tracer, store):
    store.post(RunRecord("r", "evaluate", 5.0))
    outer = workflow(tracer, "one")
    outer.__enter__()
    chat(tracer, "a", "4")
    store.post(Fact("r", None, "start", {"episode_id": "two", "task_id": "t2"}, "orchestra", 9e9))
    (one,) = [episode for episode in folded(store) if episode.episode_id == "one"]
    outer.__exit__(None, None, None)
    assert [turn.reply for turn in one.turns] == ["4"]


def test_what_a_resumed_run_played_again_counts_once(tracer, store):
    with tracer.span("attempt"):
        cut = workflow(tracer)
        cut.__enter__()
        chat(tracer, "a", "first")
        cut._otel = None  # its process died: the span never ends
    with Tracer(store, "r").span("attempt"), workflow(Tracer(store, "r")):
        chat(Tracer(store, "r"), "a", "first")
        chat(Tracer(store, "r"), "b", "second")
    (episode,) = folded(store)
    assert [turn.reply for turn in episode.turns] == ["first", "second"]
    assert episode.error is None


def test_calls_outside_of_any_play_are_no_episode(tracer, store):
    with tracer.span("attempt", attributes={names.RUN_ID: "r"}):
        chat(tracer, "a", "4")
    assert folded(store) == ()


def test_the_seats_of_a_game_keep_their_own_transcripts_and_rewards(tracer, store):
    with tracer.span("play chess", attributes={names.EPISODE_ID: "e", names.ENVIRONMENT: "chess"}):
        for seat in (0, 1):
            with workflow(tracer, "e", seat=seat) as span:
                last = chat(tracer, "player", f"move {seat}", **{names.STEP: seat})
            store.post(Fact("r", span.id, "reward", float(seat), "chess"))
    store.post(Fact("r", last.id, "reward", 0.5, "chess"))
    (episode,) = folded(store)
    assert episode.environment == "chess"
    assert [(seat.seat, seat.reward) for seat in episode.seats] == [(0, 0.0), (1, 1.0)]
    assert episode.transcript("player", seat=1).turns[0].reply == "move 1"
    assert [(turn.step, turn.reward) for turn in episode.turns] == [(0, None), (1, 0.5)]


def test_a_reward_may_name_its_seat(tracer, store):
    with workflow(tracer, seat=1):
        chat(tracer, "a", "4")
    store.post(Fact("r", None, "reward", {"episode_id": "run/t1", "seat": 1, "reward": -1}, "env"))
    assert [seat.reward for seat in folded(store)[0].seats] == [-1.0]


def test_late_facts_find_their_episode(tracer, store):
    roots = []
    for number in range(2):
        with workflow(tracer, f"e{number}") as root:
            roots.append(root)
            chat(tracer, "a", "4")
    store.post(Fact("r", roots[1].id, "score", 0.0, "scorer:exact"), Fact("r", roots[1].id, "score", 1.0, "person:ann"))
    store.post(Fact("r", roots[0].id, "tone", "friendly", "person:ann"), Fact("r", None, "note", "all", "x"))
    first, second = folded(store)
    assert (first.score, second.score) == (None, 1.0)
    assert [(label.name, label.value) for label in first.labels] == [("tone", "friendly")]


def test_an_error_found_later_is_an_error(tracer, store):
    with workflow(tracer):
        chat(tracer, "a", "4")
    store.post(Fact("r", None, "error", "the scorer crashed", "scorer"))
    assert folded(store)[0].error == "the scorer crashed"


def test_content_that_is_gone_is_not_captured(tracer, store):
    with workflow(tracer):
        chat(tracer, "a", "4")

    def gone(name):
        raise KeyError(name)

    (turn,) = episodes(store.spans("r"), (), gone)[0].turns
    assert (turn.messages, turn.reply) == ((), None)


def foreign_span(number, name, parent=None, **attributes):
    plain = {key: json.dumps(value) if isinstance(value, list) else value for key, value in attributes.items()}
    return SpanRecord(
        run_id="imported",
        trace_id="f" * 32,
        span_id=f"{number:016x}",
        parent_id=None if parent is None else f"{parent:016x}",
        name=name,
        start_ns=number * 10**9,
        end_ns=(number + 1) * 10**9 if parent is not None else 9 * 10**9,
        attributes=plain,
        scope="theirs",
    )


def foreign_trace():
    chat_attributes = {
        names.OPERATION_NAME: "chat",
        names.REQUEST_MODEL: "gpt",
        names.PROVIDER_NAME: "openai",
        names.INPUT_TOKENS: 4,
        names.SYSTEM_INSTRUCTIONS: [{"type": "text", "content": "be brief"}],
        names.INPUT_MESSAGES: [text("user", "hello")],
    }
    call = {"type": "tool_call", "id": "c1", "name": "search", "arguments": {"q": 1}}
    return [
        foreign_span(1, "invoke_workflow app", **{names.OPERATION_NAME: "invoke_workflow", names.AGENT_NAME: "app"}),
        foreign_span(2, "invoke_agent planner", 1, **{names.AGENT_NAME: "planner"}),
        foreign_span(
            3, "chat gpt", 2, **chat_attributes, **{names.OUTPUT_MESSAGES: [{"role": "assistant", "parts": [call]}]}
        ),
        foreign_span(4, "execute_tool search", 2, **{names.TOOL_NAME: "search", names.TOOL_CALL_ID: "c1"}),
        foreign_span(
            5,
            "chat gpt",
            1,
            **{
                **chat_attributes,
                names.AGENT_NAME: "writer",
                names.INPUT_MESSAGES: [
                    text("user", "hello"),
                    {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": {"n": 1}}]},
                ],
                names.OUTPUT_MESSAGES: [text("assistant", "done")],
            },
        ),
    ]


def test_a_trace_of_another_application_becomes_an_episode():
    (episode,) = episodes(foreign_trace(), [], {}.__getitem__)
    assert (episode.episode_id, episode.input, episode.output, episode.error) == ("f" * 32, "hello", "done", None)
    assert (episode.seats[0].team, episode.seats[0].team_hash, episode.seats[0].graph) == ("app", None, None)
    assert [one.node for one in episode.transcripts] == ["planner", "writer"]
    (planned,) = episode.transcript("planner").turns
    assert planned.messages == (Message(role="system", content="be brief"), Message(role="user", content="hello"))
    assert planned.tool_calls == (ToolCall(id="c1", name="search", arguments='{"q":1}'),)
    assert (planned.model, planned.provider, planned.usage.input_tokens) == ("gpt", "openai", 4)
    (written,) = episode.transcript("writer").turns
    assert written.messages[-1] == Message(role="tool", content='{"n":1}', tool_call_id="c1")
    assert (written.prompt_token_ids, written.paid_usd, written.trainable) == (None, None, False)
    assert [use.call_id for use in episode.transcript("planner").tool_uses] == ["c1"]
    assert episode.latency_seconds == 8.0


def test_a_foreign_trace_without_a_common_root_is_still_one_episode():
    (episode,) = episodes(foreign_trace()[1:], [], {}.__getitem__)
    assert len(episode.turns) == 2
    assert episode.output is None
    assert episode.error is None


def test_evaluation_results_of_an_application_are_scores():
    event = {
        "name": "gen_ai.evaluation.result",
        "at_ns": 2_000_000_000,
        "attributes": {"gen_ai.evaluation.name": "relevance", "gen_ai.evaluation.score.value": 0.75},
    }
    spans = foreign_trace()
    rated = SpanRecord(
        run_id="imported",
        trace_id="f" * 32,
        span_id="e" * 16,
        parent_id=spans[0].span_id,
        name="rate",
        start_ns=1,
        end_ns=2,
        events=(event,),
    )
    (episode,) = episodes([*spans, rated], [], {}.__getitem__)
    assert [(score.name, score.value, score.at) for score in episode.scores] == [("relevance", 0.75, 2.0)]


def test_spans_without_a_chat_are_no_episode():
    assert episodes([foreign_span(1, "GET /")], [], {}.__getitem__) == ()


def test_an_episode_survives_json_without_loss(tracer, store):
    with workflow(tracer) as root:
        chat(tracer, "a", "é \ud83d\ude00 4", **{names.PAID_NANO: 1, names.LIST_NANO: 10**18 + 1})
    store.post(Fact("r", root.id, "score", {"nested": [1, None, "x"]}, "me", 1.5))
    (episode,) = folded(store)
    assert Episode.model_validate_json(episode.model_dump_json()) == episode


def test_episodes_are_frozen_and_refuse_what_they_do_not_know(tracer, store):
    with workflow(tracer):
        chat(tracer, "a", "4")
    (episode,) = folded(store)
    with pytest.raises(ValidationError):
        episode.error = "x"
    with pytest.raises(ValidationError):
        Episode.model_validate({**episode.model_dump(), "extra": 1})


def test_the_golden_episode_loads_byte_for_byte():
    golden = (GOLDEN / "episode-v1.json").read_text(encoding="utf-8")
    episode = Episode.model_validate_json(golden)
    assert episode.model_dump_json(indent=2) + "\n" == golden
    assert episode.turns[0].reply_token_ids == (52, 2)


def test_the_golden_store_folds_to_the_golden_episode(tmp_path):
    import sqlite3

    from orchestra.traces.store import Store
    from orchestra.traces.summary import run_episodes

    old = sqlite3.connect(tmp_path / "s.sqlite")
    old.executescript((GOLDEN / "store-v1.sql").read_text(encoding="utf-8"))
    old.close()
    with Store.open(tmp_path / "s.sqlite") as store:
        (episode,) = run_episodes(store, store.runs()[0].run_id)
    assert episode.model_dump_json(indent=2) + "\n" == (GOLDEN / "episode-v1.json").read_text(encoding="utf-8")
