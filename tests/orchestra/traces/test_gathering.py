"""Which of another application's traces are one episode."""

from orchestra.traces import names
from orchestra.traces.importing import Importer
from orchestra.traces.records import SpanRecord
from orchestra.traces.summary import run_episodes


def foreign(number=1, parent=None, name="chat m", trace="a", **fields):
    attributes = fields.pop("attributes", {})
    start = fields.pop("at", number)
    return SpanRecord(
        run_id="x",
        trace_id=trace * 32,
        span_id=f"{number:016x}",
        parent_id=None if parent is None else f"{parent:016x}",
        name=name,
        start_ns=start * 10**9,
        end_ns=(start + fields.pop("seconds", 1)) * 10**9,
        attributes=attributes,
        **fields,
    )


def episodes_of(store, *spans, resource=None, **settings):
    importer = Importer(store, "test", run_id="r", **settings)
    importer.add(resource or {"service.name": "app"}, spans)
    return importer.imported(), run_episodes(store, "r")


CHAT = {names.OPERATION_NAME: "chat"}
FLOW = {names.OPERATION_NAME: "invoke_workflow"}


def talk(thread):
    return {**CHAT, names.CONVERSATION_ID: thread}


def test_steps_that_became_roots_are_put_back_into_the_workflow_around_them(store):
    spans = (
        foreign(1, name="invoke_workflow app", trace="a", at=1, seconds=9, attributes=FLOW),
        foreign(2, trace="b", at=2, attributes=CHAT),
        foreign(3, trace="c", at=4, name="execute_tool add", attributes={names.OPERATION_NAME: "execute_tool"}),
        foreign(4, trace="d", at=20, attributes=CHAT),
    )
    outcome, told = episodes_of(store, *spans)
    assert [len(episode.turns) for episode in told] == [1, 1]
    assert (told[0].seats[0].team, outcome.calls, outcome.unplaced) == ("app", 2, 1)


def test_what_two_workflows_could_claim_is_given_to_neither(store):
    spans = (
        foreign(1, name="invoke_workflow one", trace="a", at=1, seconds=9, attributes=FLOW),
        foreign(2, name="invoke_workflow two", trace="b", at=2, seconds=9, attributes=FLOW),
        foreign(3, trace="c", at=4, attributes=CHAT),
    )
    outcome, told = episodes_of(store, *spans)
    assert [len(episode.turns) for episode in told] == [1]
    assert (told[0].trace_id, outcome.unplaced) == ("c" * 32, 1)


def test_a_conversation_tells_which_workflow_and_keeps_steps_together_without_one(store):
    spans = (
        foreign(1, name="invoke_workflow one", trace="a", at=1, seconds=9, attributes={**FLOW, **talk("t1"), **FLOW}),
        foreign(2, name="invoke_workflow two", trace="b", at=1, seconds=9, attributes={**talk("t2"), **FLOW}),
        foreign(3, trace="c", at=4, attributes=talk("t2")),
        foreign(4, trace="d", at=30, attributes=talk("t3")),
        foreign(5, trace="e", at=40, attributes=talk("t3")),
    )
    outcome, told = episodes_of(store, *spans)
    assert [(episode.seats[0].team, len(episode.turns)) for episode in told] == [("two", 1), (None, 2)]
    assert outcome.unplaced == 0


def test_the_same_conversation_in_another_process_is_another(store):
    importer = Importer(store, "test", run_id="r")
    importer.add({"service.instance.id": "1"}, [foreign(1, trace="a", attributes=talk("t"))])
    importer.add({"service.instance.id": "2"}, [foreign(2, trace="b", attributes=talk("t"))])
    assert len(run_episodes(store, "r")) == 2


def test_two_runs_of_one_conversation_that_are_whole_stay_two(store):
    spans = [
        span
        for number, trace in ((1, "a"), (5, "b"))
        for span in (
            foreign(number, name="invoke_workflow app", trace=trace, seconds=3, attributes={**talk("t"), **FLOW}),
            foreign(number + 1, number, trace=trace, attributes=talk("t")),
        )
    ]
    _, told = episodes_of(store, *spans)
    assert [len(episode.turns) for episode in told] == [1, 1]


def test_a_call_that_framework_and_client_both_tell_of_is_one_turn(store):
    told = {**CHAT, names.RESPONSE_ID: "r1"}
    other = {**CHAT, names.RESPONSE_ID: "r2"}
    _, (episode,) = episodes_of(
        store, foreign(1, attributes=told), foreign(2, 1, attributes=told), foreign(3, 1, attributes=other)
    )
    assert [turn.span_id[-1] for turn in episode.turns] == ["1", "3"]


def test_a_link_that_is_no_message_joins_nothing(store):
    link = {"trace_id": "a" * 32, "span_id": f"{1:016x}", "attributes": {}}
    _, told = episodes_of(
        store, foreign(1, trace="a", attributes=CHAT), foreign(2, trace="b", attributes=CHAT, links=(link,))
    )
    assert len(told) == 2
