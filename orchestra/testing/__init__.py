"""Doubles that ship with the library, strict and free of mocks, and the checks every plug-in is held to."""

from orchestra.testing.answers import NEVER, REFUSING, Answer, Counts, Served
from orchestra.testing.clock import FakeClock
from orchestra.testing.collector import LoopbackCollector
from orchestra.testing.conformance import NotConforming, check_model
from orchestra.testing.conformance_environments import check_environment
from orchestra.testing.faulty import FAULTS, FaultyServer
from orchestra.testing.process import ServerProcess
from orchestra.testing.script import ScriptExhausted
from orchestra.testing.scripted import ScriptedModel, open_scripted

__all__ = [
    "FAULTS",
    "NEVER",
    "REFUSING",
    "Answer",
    "Counts",
    "FakeClock",
    "FaultyServer",
    "LoopbackCollector",
    "NotConforming",
    "ScriptExhausted",
    "ScriptedModel",
    "Served",
    "ServerProcess",
    "check_environment",
    "check_model",
    "open_scripted",
]
