import pytest

from orchestra.errors import InputError
from orchestra.traces.export_settings import CONTENT_VARIABLE, full_url, patience, traces_url, wants_content

BASE = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318/"}


@pytest.mark.parametrize(
    ("option", "url"),
    [
        ("http://localhost:6006", "http://localhost:6006/v1/traces"),
        ("http://localhost:6006/", "http://localhost:6006/v1/traces"),
        ("https://host/otel", "https://host/otel/v1/traces"),
        ("http://localhost:6006/v1/traces", "http://localhost:6006/v1/traces"),
    ],
)
def test_an_option_names_the_collector_with_or_without_the_path(option, url):
    assert traces_url(option, {}) == url


def test_an_option_wins_over_every_variable():
    environment = {**BASE, "OTEL_SDK_DISABLED": "true"}
    assert traces_url("http://mine", environment) == "http://mine/v1/traces"


def test_without_an_option_the_standard_variables_name_it():
    assert traces_url(None, BASE) == "http://collector:4318/v1/traces"
    exact = {**BASE, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://other:1/in"}
    assert traces_url(None, exact) == "http://other:1/in"


def test_what_a_program_names_gets_a_path_where_it_has_none():
    assert full_url("http://localhost:6006") == full_url("http://localhost:6006/") == "http://localhost:6006/v1/traces"
    assert full_url("http://other:1/in") == "http://other:1/in"


@pytest.mark.parametrize(
    "environment",
    [{}, {**BASE, "OTEL_SDK_DISABLED": "TRUE"}, {**BASE, "OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_EXPORTER": ""}],
)
def test_nothing_is_sent_where_nobody_asks_for_it(environment):
    assert traces_url(None, environment) is None


@pytest.mark.parametrize("option", ["localhost:6006", "grpc://collector:4317", "http://", "collector"])
def test_what_is_no_address_is_refused_with_how_to_write_it(option):
    with pytest.raises(InputError, match="write it like http://localhost:6006"):
        traces_url(option, {})


@pytest.mark.parametrize(
    ("value", "wanted"),
    [("", False), ("false", False), ("NO_CONTENT", False), ("EVENT_ONLY", False)]
    + [(value, True) for value in ("true", "SPAN_ONLY", "span_and_event")],
)
def test_what_was_said_is_sent_where_the_convention_says_so(value, wanted):
    assert wants_content({CONTENT_VARIABLE: value}) is wanted


def test_the_user_s_time_out_is_the_patience_of_a_run_that_ends():
    assert patience({}) == 2.0
    assert patience({"OTEL_EXPORTER_OTLP_TIMEOUT": "7"}) == 7.0
    assert patience({"OTEL_EXPORTER_OTLP_TIMEOUT": "7", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT": "0.5"}) == 0.5
    assert patience({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon"}) == 2.0
