"""Doubles that ship with the library, strict and free of mocks, and the checks every plug-in is held to."""

from orchestra.testing.clock import FakeClock
from orchestra.testing.conformance import NotConforming, check_model
from orchestra.testing.script import ScriptExhausted
from orchestra.testing.scripted import ScriptedModel, open_scripted
from orchestra.testing.server import Answer, LoopbackServer

__all__ = [
    "Answer",
    "FakeClock",
    "LoopbackServer",
    "NotConforming",
    "ScriptExhausted",
    "ScriptedModel",
    "check_model",
    "open_scripted",
]
