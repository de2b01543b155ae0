"""Questions on dates, clocks, quantities and the office's own tables."""

from datetime import date, timedelta
from math import pi
from random import Random

from making.questions import Maker, Office, Question, decimal

ZONES = {
    "Auckland": 12.0,
    "Berlin": 1.0,
    "Bogota": -5.0,
    "Chicago": -6.0,
    "Dhaka": 6.0,
    "Honolulu": -10.0,
    "Karachi": 5.0,
    "Kathmandu": 5.75,
    "Lisbon": 0.0,
    "Mumbai": 5.5,
    "Nairobi": 3.0,
    "New York": -5.0,
    "Tehran": 3.5,
    "Tokyo": 9.0,
    "Yangon": 6.5,
}
FACTORS = {
    ("miles", "kilometres"): 1.609344,
    ("kilometres", "miles"): 1 / 1.609344,
    ("feet", "metres"): 0.3048,
    ("metres", "feet"): 1 / 0.3048,
    ("pounds", "kilograms"): 0.45359237,
    ("kilograms", "pounds"): 1 / 0.45359237,
    ("US gallons", "litres"): 3.785411784,
    ("ounces", "kilograms"): 0.028349523125,
    ("yards", "metres"): 0.9144,
}


def some_date(rng: Random) -> date:
    return date(rng.randint(1985, 2035), 1, 1) + timedelta(days=rng.randint(0, 364))


def shown(rng: Random, day: date) -> str:
    return day.isoformat() if rng.random() < 0.6 else f"{day.day} {day:%B %Y}"


def weekdays(rng: Random, office: Office, kind: int) -> Question:
    day = some_date(rng)
    forms = ("What day of the week was {d}?", "On which weekday does {d} fall?", "Which weekday is {d}?")
    return Question(office.say(rng, *forms, d=shown(rng, day)), f"{day:%A}", "contains")


def date_differences(rng: Random, office: Office, kind: int) -> Question:
    day, days = some_date(rng), rng.randint(25, 290)
    if kind % 2 == 0:
        forms = (
            "How many days are between {a} and {b}?",
            "How many days pass from {a} to {b}?",
            "Count the days from {a} to {b}.",
        )
        other = day + timedelta(days=days)
        return Question(office.say(rng, *forms, a=shown(rng, day), b=shown(rng, other)), str(days))
    forms = ("Which date is {n} days {w} {a}?", "What date comes {n} days {w} {a}?", "Give the date {n} days {w} {a}.")
    way = rng.choice(("after", "before"))
    other = day + timedelta(days=days if way == "after" else -days)
    either = rf"{other.isoformat()}|\b{other.day} {other:%B %Y}|{other:%B} {other.day}, {other.year}"
    return Question(office.say(rng, *forms, n=days, w=way, a=day.isoformat()), either, "regex")


def calendar(rng: Random, office: Office, kind: int) -> Question:
    day = some_date(rng)
    if kind % 3 == 0:
        day = date(rng.randint(1896, 2100), 2, 1)
        forms = ("How many days does {m} have?", "How many days are there in {m}?")
        return Question(office.say(rng, *forms, m=f"{day:%B %Y}"), str((date(day.year, 3, 1) - day).days))
    if kind % 3 == 1:
        forms = ("What is the ISO week number of {d}?", "Which ISO week number does {d} have?")
        return Question(office.say(rng, *forms, d=shown(rng, day)), str(day.isocalendar().week))
    forms = ("Which day of the year is {d}?", "What is the day number within its year of {d}?")
    return Question(office.say(rng, *forms, d=shown(rng, day)), str((day - date(day.year, 1, 1)).days + 1))


def time_of_day(minutes: float) -> str:
    return f"{int(minutes) // 60 % 24:02d}:{int(minutes) % 60:02d}"


def time_zones(rng: Random, office: Office, kind: int) -> Question:
    here, there = rng.sample(list(ZONES), 2)
    while ZONES[here] == ZONES[there]:
        here, there = rng.sample(list(ZONES), 2)
    minutes = rng.randint(0, 287) * 5
    later = time_of_day(minutes + (ZONES[there] - ZONES[here]) * 60 + 2880)
    forms = (
        "In standard time, when it is {t} in {a}, what time is it in {b}?",
        "It is {t} in {a}. What is the standard time in {b}?",
        "What is the standard time in {b} when it is {t} in {a}?",
    )
    return Question(office.say(rng, *forms, t=time_of_day(minutes), a=here, b=there), later, "contains")


def durations(rng: Random, office: Office, kind: int) -> Question:
    start, minutes = rng.randint(84, 190) * 5, rng.randint(13, 55) * 5
    hours, rest = rng.randint(2, 19), rng.randint(5, 58)
    if kind % 3 == 0:
        forms = (
            "A meeting starts at {t} and lasts {m} minutes. When does it end?",
            "A film of {m} minutes begins at {t}. At what time is it over?",
        )
        text = office.say(rng, *forms, t=time_of_day(start), m=minutes)
        return Question(text, time_of_day(start + minutes), "contains")
    if kind % 3 == 1:
        forms = ("How many minutes is it from {t} to {u}?", "How many minutes pass between {t} and {u}?")
        return Question(office.say(rng, *forms, t=time_of_day(start), u=time_of_day(start + minutes)), str(minutes))
    forms = ("How many minutes are {h} hours and {m} minutes?", "How many minutes are in {h} hours {m} minutes?")
    return Question(office.say(rng, *forms, h=hours, m=rest), str(hours * 60 + rest))


def unit_conversion(rng: Random, office: Office, kind: int) -> Question:
    (source, target), factor = rng.choice(list(FACTORS.items()))
    amount = rng.randint(7, 190)
    forms = (
        "Convert {n} {a} to {b}, rounded to two decimals.",
        "How many {b} are {n} {a}? Round to two decimals.",
        "What is {n} {a} in {b}, to two decimals?",
    )
    return Question(office.say(rng, *forms, n=amount, a=source, b=target), decimal(amount * factor))


def temperature(rng: Random, office: Office, kind: int) -> Question:
    source, target = (("Fahrenheit", "Celsius"), ("Celsius", "Fahrenheit"), ("Celsius", "Kelvin"))[kind % 3]
    celsius = rng.randint(-8, 24) * 5
    value = {"Celsius": celsius, "Fahrenheit": celsius * 9 // 5 + 32, "Kelvin": celsius + 273.15}
    forms = (
        "Convert {n} degrees {a} to {b}.",
        "What is {n} degrees {a} in {b}?",
        "How many degrees {b} are {n} degrees {a}?",
    )
    return Question(office.say(rng, *forms, n=value[source], a=source, b=target), decimal(value[target]))


def currency(rng: Random, office: Office, kind: int) -> Question:
    source, target = rng.sample(list(office.tables.rates), 2)
    amount = rng.randint(12, 480)
    value = amount * office.tables.rates[source] / office.tables.rates[target]
    forms = (
        "At the office rate, how many {b}s are {n} {a}s? Round to two decimals.",
        "Change {n} {a}s into {b}s at the office rate, to two decimals.",
        "By the office rate, what are {n} {a}s worth in {b}s, to two decimals?",
    )
    return Question(office.say(rng, *forms, n=amount, a=source, b=target), decimal(value))


def geometry(rng: Random, office: Office, kind: int) -> Question:
    a, b, c = rng.randint(6, 29), rng.randint(6, 29), rng.randint(6, 29)
    if kind % 4 == 0:
        forms = (
            "What is the area of a triangle with base {a} and height {b}?",
            "Find the area of a triangle of base {a} and height {b}.",
        )
        value = a * b / 2
    elif kind % 4 == 1:
        forms = (
            "What is the area of a circle with radius {a}, to two decimals?",
            "Find the area of a circle of radius {a}. Round to two decimals.",
        )
        value = pi * a * a
    elif kind % 4 == 2:
        forms = (
            "What is the perimeter of a rectangle of {a} by {b}?",
            "Find the perimeter of a rectangle with sides {a} and {b}.",
        )
        value = 2.0 * (a + b)
    else:
        forms = (
            "What is the volume of a box of {a} by {b} by {c}?",
            "Find the volume of a box with sides {a}, {b} and {c}.",
        )
        value = float(a * b * c)
    return Question(office.say(rng, *forms, a=a, b=b, c=c), decimal(value))


def directory(rng: Random, office: Office, kind: int) -> Question:
    if kind % 3 == 0:
        branch = rng.choice(list(office.tables.heads))
        forms = (
            "Who is the head of the {b} branch?",
            "Who runs the {b} branch?",
            "Who is in charge of the {b} branch?",
        )
        return Question(office.say(rng, *forms, b=branch), office.tables.heads[branch], "contains")
    name = rng.choice(list(office.tables.people))
    if kind % 3 == 1:
        forms = ("What is the phone extension of {p}?", "Which extension reaches {p}?")
        return Question(office.say(rng, *forms, p=name), office.tables.people[name]["extension"])
    forms = ("On which floor does {p} sit?", "On which floor is the desk of {p}?")
    return Question(office.say(rng, *forms, p=name), office.tables.people[name]["floor"])


def catalogue(rng: Random, office: Office, kind: int) -> Question:
    name = rng.choice(list(office.tables.products))
    row = office.tables.products[name]
    if kind % 3 == 0:
        forms = ("What does the {p} cost in the catalogue?", "What is the catalogue price of the {p}?")
        return Question(office.say(rng, *forms, p=name), decimal(float(row["price"])))
    if kind % 3 == 1:
        forms = ("How many {p}s are in stock?", "What is the stock of the {p}?")
        return Question(office.say(rng, *forms, p=name), row["stock"])
    forms = ("On which shelf is the {p} stored?", "On which shelf is the {p} kept?")
    return Question(office.say(rng, *forms, p=name), row["shelf"], "contains")


def handbook(rng: Random, office: Office, kind: int) -> Question:
    rule = list(office.tables.handbook)[rng.randrange(len(office.tables.handbook))]
    forms = (
        "According to the handbook, how much is the {r}?",
        "What does the handbook say about the {r}?",
        "What is the {r} in the handbook?",
    )
    return Question(office.say(rng, *forms, r=rule), office.tables.handbook[rule].split()[0])


MAKERS: dict[str, Maker] = {
    "weekdays": weekdays,
    "date-differences": date_differences,
    "calendar": calendar,
    "time-zones": time_zones,
    "durations": durations,
    "unit-conversion": unit_conversion,
    "temperature": temperature,
    "currency": currency,
    "geometry": geometry,
    "directory": directory,
    "catalogue": catalogue,
    "handbook": handbook,
}
