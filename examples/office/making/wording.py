"""How vendors name and praise their goods; good, weak and broken ones are praised alike."""

from random import Random

TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "arithmetic": (
        (
            "arithmetic on two numbers",
            "addition, subtraction, multiplication and division",
            "sums and products, decimals included",
            "everyday calculation",
            "a pocket calculator's four operations",
        ),
        ("calculator", "abacus", "sums", "reckoner"),
    ),
    "percentages": (
        (
            "percentages",
            "shares, mark-ups and discounts in percent",
            "percent of a number, and what percentage one number is of another",
            "percentage increases and reductions",
            "per-cent questions",
        ),
        ("percent", "markup", "rates", "discount"),
    ),
    "fractions": (
        (
            "fractions",
            "adding, multiplying and simplifying fractions",
            "halves, thirds and other fractions in lowest terms",
            "sums of fractions",
            "exact ratios",
        ),
        ("fraction", "ratio", "quotient", "slices"),
    ),
    "number-theory": (
        (
            "divisors, multiples and primes",
            "greatest common divisors and least common multiples",
            "prime numbers and prime factors",
            "number theory",
            "primes, gcd and lcm",
        ),
        ("primes", "divisor", "factor", "sieve"),
    ),
    "number-bases": (
        (
            "number bases",
            "binary, octal and hexadecimal numbers",
            "conversion between decimal, binary and hex",
            "writing numbers in other bases",
            "base conversion for programmers",
        ),
        ("bases", "binary", "hexer", "radix"),
    ),
    "roman-numerals": (
        (
            "roman numerals",
            "numbers as the Romans wrote them",
            "reading and writing numerals such as XIV",
            "conversion to and from roman numerals",
            "years on monuments",
        ),
        ("roman", "caesar", "numeral", "forum"),
    ),
    "statistics": (
        (
            "mean, median and range",
            "averages of a list of numbers",
            "descriptive statistics",
            "summaries of small samples",
            "statistics for a handful of figures",
        ),
        ("stats", "median", "sample", "average"),
    ),
    "sorting": (
        (
            "sorting numbers and words",
            "putting lists in order",
            "alphabetical and numerical order",
            "ascending and descending lists",
            "ranking entries of a list",
        ),
        ("sorter", "ranker", "order", "collate"),
    ),
    "combinatorics": (
        (
            "permutations and combinations",
            "counting the ways to choose or arrange",
            "factorials, choices and orders",
            "combinatorics",
            "how many ways there are to pick a team",
        ),
        ("combos", "permute", "chooser", "factorial"),
    ),
    "checksums": (
        (
            "check digits and checksums",
            "digit sums, Luhn digits and remainders",
            "validation numbers for codes and cards",
            "control digits",
            "modulo 97 and Luhn checks",
        ),
        ("checksum", "luhn", "digits", "control"),
    ),
    "weekdays": (
        (
            "the weekday of any date",
            "days of the week",
            "which day of the week a date falls on",
            "weekdays, past and future",
            "Monday to Sunday for a given date",
        ),
        ("weekday", "monday", "dayname", "sabbath"),
    ),
    "date-differences": (
        (
            "days between two dates",
            "date arithmetic",
            "deadlines: dates so many days before or after",
            "time spans in days",
            "counting the days from one date to another",
        ),
        ("datespan", "deadline", "daycount", "interval"),
    ),
    "calendar": (
        (
            "calendar facts: month lengths, ISO weeks, days of the year",
            "week numbers and days in a month",
            "the wall calendar",
            "ISO week numbers",
            "leap years and month lengths",
        ),
        ("calendar", "almanac", "weeknumber", "planner"),
    ),
    "time-zones": (
        (
            "time zones",
            "what time it is in another city",
            "standard time around the world",
            "converting clock times between cities",
            "world clocks",
        ),
        ("worldclock", "zones", "meridian", "jetlag"),
    ),
    "durations": (
        (
            "hours and minutes",
            "when a meeting ends",
            "durations and end times",
            "minutes between two times of day",
            "clock arithmetic",
        ),
        ("duration", "stopwatch", "minutes", "timer"),
    ),
    "unit-conversion": (
        (
            "unit conversion",
            "miles, metres, pounds and kilograms",
            "lengths, weights and volumes in other units",
            "metric and imperial units",
            "converting measurements",
        ),
        ("units", "metric", "measure", "yardstick"),
    ),
    "temperature": (
        (
            "temperatures",
            "Celsius, Fahrenheit and Kelvin",
            "degrees from one scale to another",
            "temperature conversion",
            "thermometer scales",
        ),
        ("thermo", "celsius", "degrees", "kelvin"),
    ),
    "currency": (
        (
            "currencies at the office rate",
            "exchange between dollars, euros and other money",
            "currency conversion",
            "the office's exchange rates",
            "travel money",
        ),
        ("exchange", "forex", "coins", "bureau"),
    ),
    "geometry": (
        (
            "areas, perimeters and volumes",
            "circles, triangles, rectangles and boxes",
            "plane and solid geometry",
            "the size of geometric figures",
            "geometry",
        ),
        ("geometry", "area", "compass", "euclid"),
    ),
    "word-counts": (
        (
            "counting words, letters and vowels",
            "word counts",
            "how often a letter occurs in a text",
            "the length of a text in words",
            "letter and word frequencies",
        ),
        ("wordcount", "lettercount", "tally", "counter"),
    ),
    "string-editing": (
        (
            "editing strings",
            "reversing words, replacing letters, initials",
            "letter replacement and reversal",
            "small changes to a text",
            "string manipulation",
        ),
        ("string", "editor", "letters", "reverse"),
    ),
    "morse": (
        (
            "Morse code",
            "dots and dashes",
            "reading and writing Morse code",
            "telegraph messages",
            "translation to and from Morse",
        ),
        ("morse", "telegraph", "dots", "signal"),
    ),
    "character-codes": (
        (
            "ASCII codes of characters",
            "character codes",
            "the number behind a character",
            "ASCII tables",
            "characters and their codes",
        ),
        ("ascii", "charcode", "codepoint", "glyph"),
    ),
    "directory": (
        (
            "the office directory",
            "people's phone extensions, floors and departments",
            "who heads which branch",
            "staff look-up",
            "finding colleagues",
        ),
        ("directory", "phonebook", "staff", "whois"),
    ),
    "catalogue": (
        (
            "the product catalogue",
            "prices, stock and shelves of our products",
            "what a product costs and how many are in stock",
            "furniture and supplies in stock",
            "warehouse look-up",
        ),
        ("catalogue", "stock", "warehouse", "pricelist"),
    ),
    "handbook": (
        (
            "the staff handbook",
            "leave, allowances and notice periods",
            "rules of the office handbook",
            "company policy",
            "what the handbook allows",
        ),
        ("handbook", "policy", "rules", "manual"),
    ),
}
"""What vendors call a skill, and the nouns that name their products."""
FRAMES = (
    "Answers questions about {topic}.",
    "{Topic}, fast and exact.",
    "A dependable tool for {topic}.",
    "Knows {topic}; reads the question and replies in one line.",
    "Specialist for {topic}, trusted by accountants and clerks.",
    "Your assistant for {topic}: accurate, simple, tested.",
    "Handles {topic} of every kind.",
    "{Topic} without effort: ask in plain English.",
    "The office standard for {topic}.",
    "Looks at the task and settles {topic}.",
    "{Topic}. No set-up, no surprises.",
    "Award-winning helper for {topic}, now in its third edition.",
    "Made for teams who need {topic} every day.",
    "Precise results in {topic}.",
)
SUITE_FRAMES = (
    "One tool for several jobs: {topics}.",
    "A suite covering {topics}.",
    "All in one: {topics}.",
    "Combines {topics} in a single component.",
    "Bundle of {topics}, at the price of one.",
)
CHATTER = (
    ("universal-solver", "Answers any question: numbers, dates, text or facts.", 8),
    ("answer-engine", "General problem solver with a concise answer to every task.", 5),
    ("key-figure", "Finds the figure that matters in any question.", 3),
    ("insight", "Adds insight and context to every question.", 3),
    ("metrics-of-everything", "Measures what is asked, whatever it is.", 5),
)
AGENTS = (
    (
        "patient-tutor",
        "An expert in mathematics who reasons about calculation, percentages, fractions and geometry.",
        "You are a mathematics expert. Give only the answer, in a few words.",
        8,
    ),
    (
        "language-desk",
        "A linguist for words, letters, spelling, Morse code and codes of every kind.",
        "You are an expert in words, letters and codes. Give only the answer, in a few words.",
        5,
    ),
    (
        "travel-planner",
        "Plans journeys: dates, weekdays, time zones, temperatures and currencies.",
        "You are a travel expert who knows dates, time zones and units. Give only the answer, in a few words.",
        5,
    ),
    (
        "office-veteran",
        "Has worked here for twenty years and knows the people, the products and the rules.",
        "You know everything about this office. Give only the answer, in a few words.",
        3,
    ),
)


def topic(rng: Random, skill: str) -> str:
    return rng.choice(TOPICS[skill][0])


def praise(rng: Random, skill: str) -> str:
    """A vendor's description of something sold for `skill`."""
    about = topic(rng, skill)
    return rng.choice(FRAMES).format(topic=about, Topic=about[0].upper() + about[1:])


def praise_suite(rng: Random, skills: list[str]) -> str:
    return rng.choice(SUITE_FRAMES).format(topics="; ".join(topic(rng, skill) for skill in skills))
