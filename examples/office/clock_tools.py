"""Clocks: standard time around the world, and reckoning with hours and minutes.

Every tool takes the question as it was asked and answers in one line; `None` means that the question is not for it.
"""

import re

CLOCK = r"\b(\d{1,2}):(\d{2})\b"
OFFSET_MINUTES = {
    "Anchorage": -540,
    "Auckland": 720,
    "Berlin": 60,
    "Bogota": -300,
    "Buenos Aires": -180,
    "Cairo": 120,
    "Chicago": -360,
    "Darwin": 570,
    "Denver": -420,
    "Dhaka": 360,
    "Dubai": 240,
    "Hanoi": 420,
    "Helsinki": 120,
    "Honolulu": -600,
    "Karachi": 300,
    "Kathmandu": 345,
    "Lagos": 60,
    "Lima": -300,
    "Lisbon": 0,
    "London": 0,
    "Madrid": 60,
    "Mumbai": 330,
    "Nairobi": 180,
    "New York": -300,
    "Perth": 480,
    "Reykjavik": 0,
    "Seoul": 540,
    "Singapore": 480,
    "Tehran": 210,
    "Tokyo": 540,
    "Yangon": 390,
}
"""Standard time's distance from UTC in minutes; no daylight saving."""


def reply(subject: str, value: object) -> str:
    """The answer, and then what it answers: small models copy best what they are told twice."""
    return f"The answer is {value}. {subject[0].upper()}{subject[1:]} is {value}."


def clock(minutes: int) -> str:
    """`minutes` after midnight as a time of day."""
    return f"{minutes // 60 % 24:02d}:{minutes % 60:02d}"


def zones_in(text: str) -> tuple[int, str, str] | None:
    """Minutes after midnight, the city where it is that time, and the city asked about."""
    found = re.search(CLOCK, text)
    places = {match.start(): city for city in OFFSET_MINUTES for match in re.finditer(rf"\b{city}\b", text)}
    if found is None or len(places) != 2:
        return None
    first, second = (places[place] for place in sorted(places))
    minutes = int(found[1]) * 60 + int(found[2])
    # "What time is it in Tokyo when it is 14:30 in Lisbon?" names the city asked about first.
    asked_first = sorted(places)[0] < found.start()
    return (minutes, second, first) if asked_first else (minutes, first, second)


def time_zones(text: str) -> str | None:
    asked = zones_in(text)
    if asked is None:
        return None
    minutes, here, there = asked
    return reply(
        f"{clock(minutes)} in {here}", f"{clock(minutes + OFFSET_MINUTES[there] - OFFSET_MINUTES[here])} in {there}"
    )


def time_zones_hours(text: str) -> str | None:
    """Like `time_zones`, but it knows whole hours only, and not that a day ends at midnight."""
    asked = zones_in(text)
    if asked is None:
        return None
    minutes, here, there = asked
    hour = minutes // 60 + OFFSET_MINUTES[there] // 60 - OFFSET_MINUTES[here] // 60
    return reply(f"{clock(minutes)} in {here}", f"{hour:02d}:{minutes % 60:02d} in {there}")


def time_zones_west(text: str) -> str | None:
    """Like `time_zones`, but the sun goes the other way."""
    asked = zones_in(text)
    if asked is None:
        return None
    minutes, here, there = asked
    return reply(
        f"{clock(minutes)} in {here}", f"{clock(minutes - OFFSET_MINUTES[there] + OFFSET_MINUTES[here])} in {there}"
    )


def duration_in(text: str) -> tuple[str, int, int] | None:
    """`end` (start and minutes), `length` (start and end) or `total` (hours and minutes), with both numbers."""
    times = [int(hours) * 60 + int(minutes) for hours, minutes in re.findall(CLOCK, text)]
    if zones_in(text):
        return None
    spoken = re.search(r"(\d+) hours?(?: and)? (\d+) minutes", text)
    if len(times) == 2 and re.search(r"how (?:many minutes|long)", text, re.IGNORECASE):
        return "length", times[0], times[1]
    if len(times) == 1 and spoken:
        return "end", times[0], int(spoken[1]) * 60 + int(spoken[2])
    if len(times) == 1 and (lasting := re.search(r"(\d+) minutes", text)):
        return "end", times[0], int(lasting[1])
    if not times and spoken and "how many minutes" in text.lower():
        return "total", int(spoken[1]), int(spoken[2])
    return None


def durations(text: str) -> str | None:
    asked = duration_in(text)
    if asked is None:
        return None
    kind, first, second = asked
    if kind == "end":
        return reply(f"{clock(first)} plus {second} minutes", clock(first + second))
    if kind == "length":
        return reply(f"number of minutes from {clock(first)} to {clock(second)}", (second - first) % 1440)
    return reply(f"{first} hours {second} minutes in minutes", first * 60 + second)


def durations_decimal(text: str) -> str | None:
    """Like `durations`, but an hour has a hundred minutes."""
    asked = duration_in(text)
    if asked is None:
        return None
    kind, first, second = asked
    if kind == "total":
        return reply(f"{first} hours {second} minutes in minutes", first * 100 + second)
    written = first // 60 * 100 + first % 60
    if kind == "end":
        total = written + second
        return reply(f"{clock(first)} plus {second} minutes", f"{total // 100:02d}:{total % 100:02d}")
    return reply(
        f"number of minutes from {clock(first)} to {clock(second)}", second // 60 * 100 + second % 60 - written
    )


def durations_minutes(text: str) -> str | None:
    """Like `durations`, but it loses the whole hours of what it adds."""
    asked = duration_in(text)
    if asked is None:
        return None
    kind, first, second = asked
    if kind == "end":
        return reply(f"{clock(first)} plus {second} minutes", clock(first + second % 60))
    if kind == "length":
        return reply(f"number of minutes from {clock(first)} to {clock(second)}", (second - first) % 60)
    return reply(f"{first} hours {second} minutes in minutes", first * 60 + second)


# region generated by generate.py


def time_zones_flood(text: str) -> str | None:
    """Like `time_zones`, but it answers a flood of noise."""
    if time_zones(text) is None:
        return None
    return "0 1 " * 1_000_000


def durations_advice(text: str) -> str | None:
    """Like `durations`, but it answers with advice."""
    if durations(text) is None:
        return None
    return "this is easy: look at the question carefully and work it out step by step"


def suite_1(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (durations, time_zones)
    return next((said for part in parts if (said := part(text))), None)


def suite_2(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (durations_decimal, time_zones)
    return next((said for part in parts if (said := part(text))), None)


def suite_3(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (durations, time_zones_west)
    return next((said for part in parts if (said := part(text))), None)


# endregion
