"""The office's own facts, drawn anew for every seed: people, branches, products, rules and exchange rates."""

from dataclasses import dataclass
from random import Random

GIVEN = [
    "Marta",
    "Ivo",
    "Lena",
    "Oskar",
    "Priya",
    "Tomas",
    "Nadia",
    "Felix",
    "Aiko",
    "Bruno",
    "Carla",
    "Dmitri",
    "Elsa",
    "Farid",
    "Greta",
    "Hugo",
    "Ines",
    "Jonas",
    "Kira",
    "Luca",
]
FAMILY = [
    "Reis",
    "Novak",
    "Lindt",
    "Berg",
    "Rao",
    "Vidal",
    "Haddad",
    "Stein",
    "Mori",
    "Costa",
    "Petrov",
    "Nyberg",
    "Aziz",
    "Falk",
    "Weiss",
    "Duarte",
    "Kovacs",
    "Larsen",
    "Ito",
    "Moss",
]
BRANCHES = [
    "Lisbon",
    "Oslo",
    "Turin",
    "Ghent",
    "Porto",
    "Graz",
    "Bergen",
    "Split",
    "Lyon",
    "Malmo",
    "Cork",
    "Basel",
    "Leeds",
    "Tartu",
]
DEPARTMENTS = [
    "accounts",
    "archive",
    "catering",
    "design",
    "facilities",
    "legal",
    "logistics",
    "payroll",
    "purchasing",
    "training",
]
ADJECTIVES = ["folding", "oak", "steel", "compact", "quiet", "padded", "glass", "magnetic", "slim", "heavy"]
OBJECTS = [
    "stapler",
    "bookcase",
    "lamp",
    "whiteboard",
    "shredder",
    "armchair",
    "clipboard",
    "kettle",
    "projector",
    "footrest",
]
RULES = {
    "annual leave": "{} days",
    "paternity leave": "{} days",
    "moving leave": "{} days",
    "notice period": "{} weeks",
    "probation period": "{} weeks",
    "daily meal allowance": "{} dollars",
    "yearly training allowance": "{} dollars",
    "hotel limit per night": "{} dollars",
    "visitor badge deposit": "{} dollars",
    "bicycle allowance": "{} cents per mile",
    "minimum password length": "{} characters",
    "maximum carry-over of leave": "{} days",
    "desk booking window": "{} days ahead",
    "quiet room limit": "{} minutes",
}
CURRENCIES = ["euro", "krone", "florin", "franc", "peso", "crown"]


@dataclass(frozen=True)
class Tables:
    """Everything that the office knows and nobody else does."""

    people: dict[str, dict[str, str]]
    """Extension, floor and department by name."""
    heads: dict[str, str]
    """Head of each branch."""
    products: dict[str, dict[str, str]]
    """Price in dollars, pieces in stock and shelf by product."""
    products_last_year: dict[str, dict[str, str]]
    handbook: dict[str, str]
    """What each rule allows."""
    handbook_first_edition: dict[str, str]
    rates: dict[str, float]
    """Dollars for one unit of each currency."""
    rates_last_year: dict[str, float]


def names(rng: Random, count: int) -> list[str]:
    """Different full names, no two sharing a part."""
    return [
        f"{given} {family}" for given, family in zip(rng.sample(GIVEN, count), rng.sample(FAMILY, count), strict=True)
    ]


def product_row(rng: Random) -> dict[str, str]:
    return {
        "price": f"{rng.randint(11, 240)}.{rng.choice(('25', '50', '75', '95'))}",
        "stock": str(rng.randint(13, 480)),
        "shelf": f"{rng.choice('ABCDEFGH')}{rng.randint(11, 99)}",
    }


def drawn(rng: Random) -> Tables:
    """The tables that `rng` draws."""
    everyone = names(rng, 20)
    people = {
        name: {
            "extension": str(extension),
            "floor": str(rng.randint(2, 30)),
            "department": rng.choice(DEPARTMENTS),
        }
        for name, extension in zip(everyone[:12], rng.sample(range(1100, 9900), 12), strict=True)
    }
    heads = dict(zip(rng.sample(BRANCHES, 8), everyone[12:], strict=True))
    goods = [f"{adjective} {thing}" for adjective, thing in zip(rng.sample(ADJECTIVES, 10), OBJECTS, strict=True)]
    products = {name: product_row(rng) for name in rng.sample(goods, 10)}
    rules = rng.sample(list(RULES), 12)
    amounts = rng.sample(range(11, 96), 24)
    rates = {name: round(rng.uniform(0.12, 2.4), 2) for name in CURRENCIES}
    return Tables(
        people=people,
        heads=heads,
        products=products,
        products_last_year={name: product_row(rng) for name in products},
        handbook={rule: RULES[rule].format(amount) for rule, amount in zip(rules, amounts[:12], strict=True)},
        handbook_first_edition={
            rule: RULES[rule].format(amount) for rule, amount in zip(rules, amounts[12:], strict=True)
        },
        rates={"dollar": 1.0, **rates},
        rates_last_year={
            "dollar": 1.0,
            **{name: round(rate * rng.uniform(0.8, 0.95), 2) for name, rate in rates.items()},
        },
    )
