"""What stands on the shelf: for every skill a tool that works, and others that work less well or not at all.

Which of them is cheap, weak, broken or sold twice is drawn anew for every seed. The tools that work and the weak ones
are written out in the tool modules; broken ones and suites are written here, into the region of each module that is
marked as generated.
"""

from dataclasses import dataclass, field
from random import Random

from making.vendors import name
from making.wording import AGENTS, CHATTER, TOPICS, praise, praise_suite

MODULES: dict[str, dict[str, tuple[str, ...]]] = {
    "numbers_tools": {
        "arithmetic": ("arithmetic", "arithmetic_whole", "arithmetic_short"),
        "percentages": ("percentages", "percentages_whole", "percentages_parts"),
        "fractions": ("fractions", "fractions_unreduced", "fractions_naive"),
        "number-theory": ("number_theory", "number_theory_products", "number_theory_lcm_only"),
    },
    "notation_tools": {
        "number-bases": ("number_bases", "number_bases_byte", "number_bases_backwards"),
        "roman-numerals": ("roman_numerals", "roman_numerals_additive", "roman_numerals_reader"),
        "morse": ("morse", "morse_half", "morse_writer"),
        "character-codes": ("character_codes", "character_codes_shifted", "character_codes_capitals"),
    },
    "data_tools": {
        "statistics": ("statistics", "statistics_unsorted", "statistics_mean"),
        "sorting": ("sorting", "sorting_as_text", "sorting_upwards"),
        "combinatorics": ("combinatorics", "combinatorics_ranked", "combinatorics_powers"),
        "checksums": ("checksums", "checksums_roots", "checksums_left"),
    },
    "dates_tools": {
        "weekdays": ("weekdays", "weekdays_sunday", "weekdays_leapless"),
        "date-differences": ("date_differences", "date_differences_inclusive", "date_differences_thirty"),
        "calendar": ("calendar", "calendar_leapless", "calendar_thirty"),
    },
    "clock_tools": {
        "time-zones": ("time_zones", "time_zones_hours", "time_zones_west"),
        "durations": ("durations", "durations_decimal", "durations_minutes"),
    },
    "units_tools": {
        "unit-conversion": ("unit_conversion", "unit_conversion_rough", "unit_conversion_inverse"),
        "temperature": ("temperature", "temperature_kitchen", "temperature_summer"),
        "currency": ("currency", "currency_stale", "currency_inverse"),
        "geometry": ("geometry", "geometry_biblical", "geometry_flat"),
    },
    "text_tools": {
        "word-counts": ("word_counts", "word_counts_spaces", "word_counts_length"),
        "string-editing": ("string_editing", "string_editing_once", "string_editing_mirror"),
    },
    "office_tools": {
        "directory": ("directory", "directory_neighbour", "directory_phones"),
        "catalogue": ("catalogue", "catalogue_last_year", "catalogue_prices"),
        "handbook": ("handbook", "handbook_first_edition", "handbook_excerpt"),
    },
}
"""Functions for each skill: the one that works, then the weak ones."""
SKILLS = tuple(skill for skills in MODULES.values() for skill in skills)
PRICES = (3, 5, 8)
FAULTS = {
    "crash": ("raises when it is needed", 'raise RuntimeError("no licence for this machine")'),
    "stuck": ("never comes back when it is needed", "time.sleep(3600)"),
    "rubbish": ("answers rubbish", 'return "#ERR 0x7f3a;; NaN NaN -1.#IND"'),
    "flood": ("answers a flood of noise", 'return "0 1 " * 1_000_000'),
    "quota": ("asks for money instead", 'return "your free quota is used up; upgrade to continue"'),
    "advice": (
        "answers with advice",
        'return "this is easy: look at the question carefully and work it out step by step"',
    ),
}
"""How a tool can be broken: in words, and what it does when the question is its own."""
STUCK_AT_MOST = 3
COMPONENTS_AT_LEAST = 120


@dataclass
class Shelf:
    """Components as they will stand in the inventory, and the code that has to be written for them."""

    rng: Random
    rows: list[dict[str, object]] = field(default_factory=list)
    code: dict[str, list[str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def put(self, skills: list[str], call: str, description: str, noun: str, price: int, **extra: object) -> None:
        """Put the tool `call` on the shelf under a fresh name with `noun` in it."""
        row: dict[str, object] = {
            "name": name(self.rng, noun, self.taken),
            "kind": "tool",
            "description": description,
            "price_usd": price,
            "categories": skills,
            "call": call,
        }
        if self.rng.random() < 0.3:
            row["latency_seconds"] = self.rng.choice((0.01, 0.02, 0.05, 0.1, 0.2))
        self.rows.append(row | extra)

    def sell(self, skill: str, call: str, **extra: object) -> None:
        """Put the tool `call` on the shelf as something for `skill`, praised and priced at random."""
        rng = self.rng
        self.put([skill], call, praise(rng, skill), rng.choice(TOPICS[skill][1]), rng.choice(PRICES), **extra)


def broken(shelf: Shelf, module: str, skill: str, fault: str) -> None:
    """Write and sell the tool of `skill` with `fault`."""
    working = MODULES[module][skill][0]
    words, action = FAULTS[fault]
    importing = "    import time\n\n" if fault == "stuck" else ""
    shelf.code.setdefault(module, []).append(
        f"def {working}_{fault}(text: str) -> str | None:\n"
        f'    """Like `{working}`, but it {words}."""\n'
        f"{importing}"
        f"    if {working}(text) is None:\n"
        f"        return None\n"
        f"    {action}\n" + ("    return None\n" if fault == "stuck" else "")
    )
    extra = {"timeout_seconds": 1} if fault == "stuck" else {}
    shelf.sell(skill, f"{module}:{working}_{fault}", **extra)


def suite(shelf: Shelf, module: str, number: int, skills: list[str]) -> None:
    """Write and sell one tool for several skills; each part works with probability 0.8, else it is a weak one."""
    rng, tools = shelf.rng, MODULES[module]
    parts = [tools[skill][0] if rng.random() < 0.8 else rng.choice(tools[skill][1:]) for skill in skills]
    shelf.code.setdefault(module, []).append(
        f"def suite_{number}(text: str) -> str | None:\n"
        f'    """The first of its parts that has something to say."""\n'
        f"    parts = ({', '.join(parts)})\n"
        f"    return next((said for part in parts if (said := part(text))), None)\n"
    )
    noun = rng.choice(("suite", "kit", "desk", "toolbox", "bundle"))
    price = rng.choices(PRICES, (15, 40, 45))[0]
    shelf.put(skills, f"{module}:suite_{number}", praise_suite(rng, skills), noun, price)


def stock_skill(shelf: Shelf, module: str, skill: str, stuck_left: int) -> int:
    """Sell everything there is for `skill`; how many more tools may hang."""
    rng = shelf.rng
    works, *weak = (f"{module}:{function}" for function in MODULES[module][skill])
    shelf.sell(skill, works)
    if rng.random() < 0.45:
        shelf.sell(skill, works)
    for call in rng.sample(weak, rng.choice((1, 2, 2))):
        shelf.sell(skill, call)
        if rng.random() < 0.15:
            shelf.sell(skill, call)
    faults = [fault for fault in FAULTS if fault != "stuck" or stuck_left]
    for fault in rng.sample(faults, rng.choice((0, 1, 1, 2))):
        broken(shelf, module, skill, fault)
        stuck_left -= fault == "stuck"
    if rng.random() < 0.35:
        # Sounds right and does something else: a working tool of another skill under this one's description.
        other_module = rng.choice(list(MODULES))
        other = rng.choice([other for other in MODULES[other_module] if other != skill])
        shelf.sell(skill, f"{other_module}:{MODULES[other_module][other][rng.randrange(1, 3)]}")
    return stuck_left


def stock_suites(shelf: Shelf, module: str) -> None:
    skills = list(MODULES[module])
    for number in range(1, shelf.rng.choice((1, 2, 2, 3)) + 1):
        size = len(skills) if number == 1 else shelf.rng.randint(2, len(skills))
        suite(shelf, module, number, sorted(shelf.rng.sample(skills, size)))


def stocked(rng: Random) -> Shelf:
    """The shelf that `rng` fills, at least `COMPONENTS_AT_LEAST` components, in no particular order."""
    shelf, stuck_left = Shelf(rng), STUCK_AT_MOST
    for module, skills in MODULES.items():
        for skill in skills:
            stuck_left = stock_skill(shelf, module, skill, stuck_left)
        stock_suites(shelf, module)
    for product, description, price in rng.sample(CHATTER, 4):
        function = {"universal-solver": "guess", "answer-engine": "guess", "key-figure": "first_number"}.get(product)
        call = f"chatter_tools:{function or ('motto' if product == 'insight' else 'question_length')}"
        shelf.put(["general"], call, description, product, price)
    while len(shelf.rows) < COMPONENTS_AT_LEAST - len(AGENTS):
        module = rng.choice(list(MODULES))
        skill = rng.choice(list(MODULES[module]))
        shelf.sell(skill, f"{module}:{rng.choice(MODULES[module][skill])}")
    for agent, description, prompt, price in AGENTS:
        shelf.rows.append(
            {
                "name": agent,
                "kind": "agent",
                "description": description,
                "price_usd": price,
                "categories": ["advice"],
                "prompt": prompt,
            }
        )
    rng.shuffle(shelf.rows)
    return shelf
