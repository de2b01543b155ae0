"""Dates: weekdays, spans between dates, and calendars.

Every tool takes the question as it was asked and answers in one line; `None` means that the question is not for it.
"""

import re
from calendar import isleap, monthrange
from datetime import date, timedelta

MONTHS = (
    "january february march april may june july august september october november december".split()  # noqa: SIM905
)
WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ISO = r"(\d{4})-(\d{2})-(\d{2})"
LONG = rf"(\d{{1,2}}) ({'|'.join(MONTHS)}) (\d{{4}})"


def reply(subject: str, value: object) -> str:
    """The answer, and then what it answers: small models copy best what they are told twice."""
    return f"The answer is {value}. {subject[0].upper()}{subject[1:]} is {value}."


def dates_in(text: str) -> list[date]:
    """The dates that `text` names, in order, written `2024-03-15` or `15 March 2024`."""
    found = [(match.start(), int(match[1]), int(match[2]), int(match[3])) for match in re.finditer(ISO, text)]
    for match in re.finditer(LONG, text, re.IGNORECASE):
        found.append((match.start(), int(match[3]), MONTHS.index(match[2].lower()) + 1, int(match[1])))
    days = []
    for _, year, month, day in sorted(found):
        if 1 <= month <= 12 and 1 <= day <= monthrange(year, month)[1]:
            days.append(date(year, month, day))
    return days


def weekday_in(text: str) -> date | None:
    days = dates_in(text)
    return days[0] if len(days) == 1 and re.search(r"day of the week|weekday", text, re.IGNORECASE) else None


def weekdays(text: str) -> str | None:
    day = weekday_in(text)
    return reply(str(day), WEEKDAYS[day.weekday()]) if day else None


def weekdays_sunday(text: str) -> str | None:
    """Like `weekdays`, but it takes the week to begin on Sunday, and so is a day behind."""
    day = weekday_in(text)
    return reply(str(day), WEEKDAYS[day.weekday() - 1]) if day else None


def weekdays_leapless(text: str) -> str | None:
    """Like `weekdays`, but it has not heard of 29 February since 2022."""
    day = weekday_in(text)
    if day is None:
        return None
    whole_years = (day.year - 2022) * 365
    since = whole_years + (date(2022, day.month, min(day.day, 28)) - date(2022, 1, 1)).days + max(day.day - 28, 0)
    return reply(str(day), WEEKDAYS[(date(2022, 1, 1).weekday() + since) % 7])


def span_in(text: str) -> tuple[str, date, int | date] | None:
    """`between` and two dates, or `after` or `before` with a date and a number of days."""
    days, lowered = dates_in(text), text.lower()
    if len(days) == 2 and "days" in lowered:
        return "between", days[0], days[1]
    shift = re.search(r"(\d+) days (after|before)", lowered)
    if len(days) == 1 and shift:
        return shift[2], days[0], int(shift[1])
    return None


def date_differences(text: str) -> str | None:
    asked = span_in(text)
    if asked is None:
        return None
    kind, start, other = asked
    if isinstance(other, date):
        return reply(f"number of days between {start} and {other}", abs((other - start).days))
    day = start + timedelta(days=other if kind == "after" else -other)
    return reply(f"{other} days {kind} {start}", day)


def date_differences_inclusive(text: str) -> str | None:
    """Like `date_differences`, but it counts the first day too."""
    asked = span_in(text)
    if asked is None:
        return None
    kind, start, other = asked
    if isinstance(other, date):
        return reply(f"number of days between {start} and {other}", abs((other - start).days) + 1)
    day = start + timedelta(days=other - 1 if kind == "after" else 1 - other)
    return reply(f"{other} days {kind} {start}", day)


def date_differences_thirty(text: str) -> str | None:
    """Like `date_differences`, but every month has thirty days; it only knows spans between two dates."""
    asked = span_in(text)
    if asked is None or not isinstance(asked[2], date):
        return None
    _, start, end = asked
    days = (end.year - start.year) * 360 + (end.month - start.month) * 30 + end.day - start.day
    return reply(f"number of days between {start} and {end}", abs(days))


def page_in(text: str) -> tuple[str, date] | None:
    """`month`, `week` or `yearday`, and the date (for a month, its first day)."""
    lowered = text.lower()
    if found := re.search(rf"how many days .*\b({'|'.join(MONTHS)}) (\d{{4}})", lowered):
        return None if dates_in(text) else ("month", date(int(found[2]), MONTHS.index(found[1]) + 1, 1))
    days = dates_in(text)
    if len(days) != 1:
        return None
    if "week number" in lowered or "iso week" in lowered:
        return "week", days[0]
    if "day of the year" in lowered or "day number" in lowered:
        return "yearday", days[0]
    return None


def page_line(kind: str, day: date, value: int) -> str:
    if kind == "month":
        return reply(f"number of days in {MONTHS[day.month - 1].title()} {day.year}", value)
    return reply(f"{'ISO week number' if kind == 'week' else 'day of the year'} of {day}", value)


def calendar(text: str) -> str | None:
    asked = page_in(text)
    if asked is None:
        return None
    kind, day = asked
    if kind == "month":
        return page_line(kind, day, monthrange(day.year, day.month)[1])
    return page_line(kind, day, day.isocalendar().week if kind == "week" else day.timetuple().tm_yday)


def calendar_leapless(text: str) -> str | None:
    """Like `calendar`, but February always has 28 days, and weeks begin on 1 January."""
    asked = page_in(text)
    if asked is None:
        return None
    kind, day = asked
    if kind == "month":
        return page_line(kind, day, 28 if day.month == 2 else monthrange(day.year, day.month)[1])
    yearday = day.timetuple().tm_yday - (1 if isleap(day.year) and day.month > 2 else 0)
    return page_line(kind, day, 1 + (yearday - 1) // 7 if kind == "week" else yearday)


def calendar_thirty(text: str) -> str | None:
    """Like `calendar`, but every month has thirty days."""
    asked = page_in(text)
    if asked is None:
        return None
    kind, day = asked
    yearday = (day.month - 1) * 30 + day.day
    return page_line(kind, day, {"month": 30, "week": yearday // 7, "yearday": yearday}[kind])


# region generated by generate.py


def weekdays_rubbish(text: str) -> str | None:
    """Like `weekdays`, but it answers rubbish."""
    if weekdays(text) is None:
        return None
    return "#ERR 0x7f3a;; NaN NaN -1.#IND"


def weekdays_flood(text: str) -> str | None:
    """Like `weekdays`, but it answers a flood of noise."""
    if weekdays(text) is None:
        return None
    return "0 1 " * 1_000_000


def date_differences_advice(text: str) -> str | None:
    """Like `date_differences`, but it answers with advice."""
    if date_differences(text) is None:
        return None
    return "this is easy: look at the question carefully and work it out step by step"


def calendar_advice(text: str) -> str | None:
    """Like `calendar`, but it answers with advice."""
    if calendar(text) is None:
        return None
    return "this is easy: look at the question carefully and work it out step by step"


def suite_1(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (calendar, date_differences, weekdays)
    return next((said for part in parts if (said := part(text))), None)


def suite_2(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (calendar_leapless, date_differences)
    return next((said for part in parts if (said := part(text))), None)


# endregion
