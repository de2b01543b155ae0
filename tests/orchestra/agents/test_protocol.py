import json

import pytest

from graphs import Tool
from orchestra.agents.protocol import instructions, parse

CALCULATOR = Tool(name="calculator", call="tools:add", description="Works out sums.")


def test_instructions_name_every_tool_and_show_one_call():
    text = instructions([CALCULATOR, Tool(name="clock", call="tools:now")])
    assert "- calculator: Works out sums." in text
    assert "- clock: no description" in text
    assert "CALL calculator:" in text
    assert instructions([]) == ""


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        ("CALL calculator: 61 * 65", "61 * 65"),
        ("Let me work it out.\nCALL calculator: 61 * 65\ncalculator: 4000", "61 * 65"),
        ("CALL calculator: 1\nCALL clock: now", "1"),
        ("  call Calculator: 61 * 65  ", "61 * 65"),
        ("- CALL calculator: -5 + 3", "-5 + 3"),
        ("1. CALL calculator: 1.50", "1.50"),
        ("**CALL calculator: 61 * 65**", "61 * 65"),
        ("**CALL calculator:** 61 * 65", "61 * 65"),
        ("`CALL calculator: 61 * 65`", "61 * 65"),
        ("```\nCALL calculator: 61 * 65\n```", "61 * 65"),
        ('CALL calculator: "61 * 65"', "61 * 65"),
        ('CALL calculator: "a" and "b"', '"a" and "b"'),
        ("CALL `calculator`: 61", "61"),
        ("CALL: calculator: 61", "61"),
        ("CALL calculator(61 * (6 + 5)).", "61 * (6 + 5)"),
        ("CALL calculator: (1 + 2) * 3", "(1 + 2) * 3"),
        ("CALL calculator:\n\n61 * 65\nmore", "61 * 65"),
        ("CALL calculator:", ""),
        ('CALL calculator: {"input": "61 * 65", "unit": "km"}', "61 * 65"),
        ('CALL calculator: {"expression": "61 * 65"}', "61 * 65"),
        ("CALL calculator: {broken", "{broken"),
        ("CALL calculator: grüße: 5", "grüße: 5"),
    ],
)
def test_a_call_is_understood_whatever_it_is_dressed_in(reply, text):
    call = parse(reply)
    assert call is not None
    assert call.name.lower() == "calculator"
    assert json.loads(call.arguments) == {"input": text}


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "3965",
        "I will CALL calculator: 61",
        "Call the calculator for 61 * 65.",
        "recall calculator: 5",
        "CALL",
        "CALL: ",
    ],
)
def test_talking_about_a_call_is_no_call(reply):
    assert parse(reply) is None
