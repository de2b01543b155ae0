import asyncio
import contextvars
import subprocess
import sys
import threading

import pytest
from opentelemetry import trace as trace_api
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span

from orchestra.traces import names
from orchestra.traces.spans import Tracer, current_span, trace_id_of
from orchestra.traces.store import Store


@pytest.fixture
def tracer(store):
    return Tracer(store, "run")


def by_name(store, run_id="run"):
    return {span.name: span for span in store.spans(run_id)}


def test_a_span_keeps_its_name_kind_attributes_and_times(tracer, store):
    with tracer.span("chat m", "client", {names.REQUEST_MODEL: "m", names.REQUEST_SEED: None}) as span:
        span.set(names.INPUT_TOKENS, 3)
        span.set(names.OUTPUT_TOKENS, None)
        span.set(names.RESPONSE_FINISH_REASONS, ["stop"])
    (record,) = store.spans("run")
    assert (record.name, record.kind, record.status, record.parent_id) == ("chat m", "client", "unset", None)
    assert record.attributes == {
        names.REQUEST_MODEL: "m",
        names.INPUT_TOKENS: 3,
        names.RESPONSE_FINISH_REASONS: ("stop",),
    }
    assert (record.span_id, record.trace_id) == (span.id, span.trace_id)
    assert record.end_ns >= record.start_ns > 1_700_000_000_000_000_000
    resource = store.blob_value(record.resource)
    assert resource[names.NAMES_VERSION] == names.VERSION


def test_every_attempt_at_a_run_has_the_same_trace(store):
    for _ in range(2):
        with Tracer(store, "run").span("attempt") as span:
            assert span.trace_id == f"{trace_id_of('run'):032x}"


async def test_one_root_under_gather_tasks_and_threads(tracer, store):
    def in_thread() -> None:
        with tracer.span("thread"):
            pass

    async def child(number: int) -> None:
        with tracer.span(f"outer {number}"):
            await asyncio.sleep(0)
            with tracer.span(f"inner {number}"):
                await asyncio.sleep(0.001)

    with tracer.span("root") as root:
        await asyncio.gather(*(child(number) for number in range(5)), asyncio.to_thread(in_thread))
        context = contextvars.copy_context()
        worker = threading.Thread(target=context.run, args=(in_thread,))
        worker.start()
        worker.join()
    spans = by_name(store)
    assert [span.name for span in store.spans("run") if span.parent_id is None] == ["root"]
    assert spans["thread"].parent_id == root.id
    for number in range(5):
        assert spans[f"outer {number}"].parent_id == root.id
        assert spans[f"inner {number}"].parent_id == spans[f"outer {number}"].span_id
    assert len({span.trace_id for span in store.spans("run")}) == 1


def test_what_a_span_belongs_to_is_handed_on(tracer, store):
    with tracer.span("invoke_workflow t", attributes={names.EPISODE_ID: "e", names.SEAT: 1}) as root:
        root.set(names.STEP, 4)
        with tracer.span("invoke_agent a", attributes={names.NODE: "a"}), tracer.span("chat m"):
            pass
    chat = by_name(store)["chat m"]
    assert chat.attributes == {names.EPISODE_ID: "e", names.SEAT: 1, names.STEP: 4, names.NODE: "a"}
    assert names.NODE not in by_name(store)["invoke_workflow t"].attributes


def test_an_exception_fails_every_span_it_leaves_and_is_described_once(tracer, store):
    with pytest.raises(ZeroDivisionError), tracer.span("outer"), tracer.span("inner"):
        1 / 0  # noqa: B018
    outer, inner = by_name(store)["outer"], by_name(store)["inner"]
    assert outer.status == inner.status == "error"
    assert inner.status_message == "division by zero"
    assert outer.attributes[names.ERROR_TYPE] == "ZeroDivisionError"
    assert [event["name"] for event in inner.events] == ["exception"]
    assert outer.events == ()


def test_a_span_may_fail_without_an_exception_leaving_it(tracer, store):
    with tracer.span("chat m") as span:
        span.fail(ValueError())
    assert by_name(store)["chat m"].status_message == "ValueError"
    assert current_span() is None


async def test_a_cancelled_span_ends_as_failed(tracer, store):
    async def wait() -> None:
        with tracer.span("waits"):
            await asyncio.sleep(10)

    task = asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert by_name(store)["waits"].attributes[names.ERROR_TYPE] == "CancelledError"


async def test_a_generator_closed_elsewhere_still_ends_its_span(tracer, store):
    def generate():
        with tracer.span("generator"):
            yield 1

    generator = contextvars.copy_context().run(lambda: iter(generate()))
    contextvars.copy_context().run(next, generator)
    generator.close()
    assert "generator" in by_name(store)


def test_content_is_kept_once_and_the_span_holds_its_digest(tracer, store):
    for _ in range(2):
        with tracer.span("chat m") as span:
            span.content(names.INPUT_MESSAGES, [{"role": "user"}])
    first, second = store.spans("run")
    assert first.attributes == second.attributes
    assert store.blob_value(first.attributes[names.INPUT_MESSAGES]) == [{"role": "user"}]


def test_a_foreign_span_becomes_a_link_and_never_a_parent(tracer, store):
    foreign = TracerProvider().get_tracer("theirs")
    with foreign.start_as_current_span("request") as theirs, tracer.span("root"):
        with tracer.span("child"):
            pass
        with foreign.start_as_current_span("call") as inner, tracer.span("below"):
            pass
    spans = by_name(store)
    assert spans["root"].parent_id is None
    assert [link["span_id"] for link in spans["root"].links] == [f"{theirs.get_span_context().span_id:016x}"]
    assert spans["child"].links == ()
    assert [link["span_id"] for link in spans["below"].links] == [f"{inner.get_span_context().span_id:016x}"]


def test_our_spans_are_not_current_for_foreign_tracers(tracer):
    with tracer.span("root"):
        assert not trace_api.get_current_span().get_span_context().is_valid


def test_a_run_inside_another_run_is_linked_to_it(store):
    with Tracer(store, "outer").span("outer") as outer, Tracer(store, "inner").span("inner"):
        pass
    (inner,) = store.spans("inner")
    assert inner.parent_id is None
    assert [link["span_id"] for link in inner.links] == [outer.id]


def test_values_json_cannot_say_are_kept_as_text(tracer, store):
    with tracer.span("s", attributes={"x": float("inf"), "y": [1.0, float("nan")]}):
        pass
    assert by_name(store)["s"].attributes == {"x": "inf", "y": (1.0, "nan")}


def test_a_redactor_sees_every_text_before_it_is_written(store, file):
    tracer = Tracer(store, "run", redact=lambda text: text.replace("SECRET", "***"))
    with tracer.span("chat SECRET", attributes={"a": "SECRET", "list": ["SECRET"]}) as span:
        span.content(names.INPUT_MESSAGES, [{"role": "user", "content": "my SECRET"}])
        span.fail(ValueError("SECRET"))
    (record,) = store.spans("run")
    assert store.blob_value(record.attributes[names.INPUT_MESSAGES]) == [{"role": "user", "content": "my ***"}]
    assert record.attributes["list"] == ("***",)
    store.close()
    assert b"SECRET" not in file.read_bytes()


@pytest.mark.parametrize(("said", "kept"), [("my SECRET", False), ("nothing", True)])
def test_a_redacted_turn_loses_its_token_ids_and_log_probabilities(store, said, kept):
    tracer = Tracer(store, "run", redact=lambda text: text.replace("SECRET", "***"))
    with tracer.span("chat m") as span:
        span.content(names.TOKEN_IDS, {"prompt": [1], "reply": [2], "logprobs": [-1.0]})
        span.content(names.OUTPUT_MESSAGES, [{"role": "assistant", "content": said}])
    (record,) = store.spans("run")
    assert (names.TOKEN_IDS in record.attributes) is kept
    assert record.attributes.get(names.REDACTED, False) is not kept


IN_A_HOSTILE_ENVIRONMENT = """
import sys
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from orchestra.traces.spans import Tracer
from orchestra.traces.store import Store

unsampled = NonRecordingSpan(SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(0)))
with Store.open(sys.argv[1]) as store:
    tracer = Tracer(store, "run")
    with use_span(unsampled), tracer.span("root", attributes={"text": "a" * 5000}) as root:
        for number in range(300):
            root.set(f"a{number}", number)
        with tracer.span("child") as child:
            child.content("long", "b" * 5000)
            child.fail(ValueError("c" * 5000))
"""


@pytest.mark.parametrize(
    "setting",
    [
        {"OTEL_SDK_DISABLED": "true"},
        {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT": "10", "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT": "10"},
        {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "1", "OTEL_SPAN_EVENT_COUNT_LIMIT": "0", "OTEL_SPAN_LINK_COUNT_LIMIT": "0"},
        {"OTEL_RESOURCE_ATTRIBUTES": "service.name=theirs", "OTEL_SERVICE_NAME": "theirs"},
    ],
    ids=lambda setting: next(iter(setting)),
)
def test_the_store_is_complete_whatever_the_environment_says(file, setting):
    subprocess.run([sys.executable, "-c", IN_A_HOSTILE_ENVIRONMENT, str(file)], env=setting, check=True)
    with Store.open(file) as store:
        child, root = store.spans("run")
        assert root.attributes["text"] == "a" * 5000
        assert len(root.attributes) == 301
        assert [link["span_id"] for link in root.links] == [f"{6:016x}"]
        assert child.parent_id == root.span_id
        assert store.blob_value(child.attributes["long"]) == "b" * 5000
        assert child.status_message == "c" * 5000
        assert len(child.events) == 1
        assert store.blob_value(root.resource)["service.name"] == "orchestra"


def test_an_unsampled_foreign_parent_changes_nothing(tracer, store):
    unsampled = NonRecordingSpan(SpanContext(5, 6, is_remote=True, trace_flags=TraceFlags(0)))
    with use_span(unsampled), tracer.span("root"):
        pass
    assert by_name(store)["root"].trace_id == f"{trace_id_of('run'):032x}"
