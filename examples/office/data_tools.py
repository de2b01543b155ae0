"""Small data: statistics, sorting, counting possibilities and check digits.

Every tool takes the question as it was asked and answers in one line; `None` means that the question is not for it.
"""

import re
import statistics as stats
from math import comb, factorial, perm

LIST = r":\s*(-?\d+(?:,\s*-?\d+)+)|of (-?\d+(?:,\s*-?\d+)+)"


def reply(subject: str, value: object) -> str:
    """The answer, and then what it answers: small models copy best what they are told twice."""
    return f"The answer is {value}. {subject[0].upper()}{subject[1:]} is {value}."


def plain(value: float) -> str:
    """`value` in decimals, at most two, without trailing zeros."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if "." in f"{value:.2f}" else f"{value}"


def numbers_in(text: str) -> list[int]:
    found = re.search(LIST, text)
    return [int(number) for number in re.findall(r"-?\d+", found[1] or found[2])] if found else []


def measure_in(text: str) -> str | None:
    found = re.search(r"\b(mean|average|median|range|mode)\b", text, re.IGNORECASE)
    return found[1].lower().replace("average", "mean") if found else None


def statistics(text: str) -> str | None:
    measure, numbers = measure_in(text), numbers_in(text)
    if measure is None or len(numbers) < 2:
        return None
    value = {
        "mean": stats.fmean(numbers),
        "median": stats.median(numbers),
        "range": max(numbers) - min(numbers),
        "mode": stats.mode(numbers),
    }[measure]
    return reply(f"{measure} of the {len(numbers)} numbers", plain(value))


def statistics_unsorted(text: str) -> str | None:
    """Like `statistics`, but it takes the median and the range of a list as it stands."""
    measure, numbers = measure_in(text), numbers_in(text)
    if measure is None or len(numbers) < 2:
        return None
    if measure == "median":
        return reply(f"median of the {len(numbers)} numbers", numbers[len(numbers) // 2])
    if measure == "range":
        return reply(f"range of the {len(numbers)} numbers", abs(numbers[-1] - numbers[0]))
    return statistics(text)


def statistics_mean(text: str) -> str | None:
    """Like `statistics`, but every answer is the mean in whole numbers."""
    measure, numbers = measure_in(text), numbers_in(text)
    if measure is None or len(numbers) < 2:
        return None
    return reply(f"{measure} of the {len(numbers)} numbers", sum(numbers) // len(numbers))


def order_in(text: str) -> tuple[list[str], bool] | None:
    """What to put in order, and whether backwards."""
    lowered = text.lower()
    if not re.search(r"\b(sort|order|arrange|alphabetical)", lowered) or ":" not in text:
        return None
    items = [item.strip(" .?") for item in text.rsplit(":", 1)[1].split(",")]
    if len(items) < 2:
        return None
    return items, bool(re.search(r"descending|largest (?:first|to)|reverse alphabetical|from largest", lowered))


def is_number(item: str) -> bool:
    return re.fullmatch(r"-?\d+", item) is not None


def sorting(text: str) -> str | None:
    asked = order_in(text)
    if asked is None:
        return None
    items, backwards = asked
    key = int if all(map(is_number, items)) else str.lower
    return reply("the right order", ", ".join(sorted(items, key=key, reverse=backwards)))


def sorting_as_text(text: str) -> str | None:
    """Like `sorting`, but 10 comes before 9."""
    asked = order_in(text)
    return reply("the right order", ", ".join(sorted(asked[0], reverse=asked[1]))) if asked else None


def sorting_upwards(text: str) -> str | None:
    """Like `sorting`, but only the first and the last change places."""
    asked = order_in(text)
    if asked is None:
        return None
    first, *middle, last = asked[0]
    return reply("the right order", ", ".join((last, *middle, first)))


def choice_in(text: str) -> tuple[str, int, int] | None:
    """The kind of choice (`arrangements` of all, `choices`, `ranked` choices), from how many, and how many."""
    lowered = text.lower()
    if found := re.search(r"factorial of (\d+)", lowered):
        return "arrangements", int(found[1]), int(found[1])
    if not re.search(r"how many (?:different )?(?:ways|orders|groups|teams|committees)", lowered):
        return None
    numbers = [int(number) for number in re.findall(r"\d+", lowered)]
    if len(numbers) == 1 and re.search(r"orders|arranged|line up|stand", lowered):
        return "arrangements", numbers[0], numbers[0]
    if len(numbers) != 2:
        return None
    kind = "ranked" if re.search(r"order matters|first, second|ranked", lowered) else "choices"
    return kind, max(numbers), min(numbers)


def combinatorics(text: str) -> str | None:
    asked = choice_in(text)
    if asked is None:
        return None
    kind, whole, part = asked
    if kind == "arrangements":
        return reply(f"number of orders of {whole} things", factorial(whole))
    if kind == "ranked":
        return reply(f"number of ordered choices of {part} from {whole}", perm(whole, part))
    return reply(f"number of choices of {part} from {whole}", comb(whole, part))


def combinatorics_ranked(text: str) -> str | None:
    """Like `combinatorics`, but order always matters."""
    asked = choice_in(text)
    return reply(f"number of choices of {asked[2]} from {asked[1]}", perm(asked[1], asked[2])) if asked else None


def combinatorics_powers(text: str) -> str | None:
    """Like `combinatorics`, but everything may be chosen again."""
    asked = choice_in(text)
    return reply(f"number of choices of {asked[2]} from {asked[1]}", asked[1] ** asked[2]) if asked else None


def check_in(text: str) -> tuple[str, str] | None:
    """The kind of check (`digits`, `luhn`, `remainder`) and the digits to check."""
    lowered = text.lower()
    digits = re.search(r"\b(\d{4,})\b", lowered)
    if digits is None:
        return None
    if "luhn" in lowered:
        return "luhn", digits[1]
    if re.search(r"digit sum|sum of the digits", lowered):
        return "digits", digits[1]
    if re.search(r"\b(?:mod|modulo) 97\b", lowered):
        return "remainder", digits[1]
    return None


def luhn_digit(digits: str, first_doubled: int) -> int:
    total = 0
    for position, digit in enumerate(reversed(digits)):
        doubled = int(digit) * 2 if position % 2 == first_doubled else int(digit)
        total += doubled - 9 if doubled > 9 else doubled
    return -total % 10


def check_line(kind: str, digits: str, value: int) -> str:
    subject = {"luhn": "Luhn check digit of {}", "digits": "digit sum of {}", "remainder": "{} modulo 97"}[kind]
    return reply(subject.format(digits), value)


def checksums(text: str) -> str | None:
    asked = check_in(text)
    if asked is None:
        return None
    kind, digits = asked
    value = {"luhn": luhn_digit(digits, 0), "digits": sum(map(int, digits)), "remainder": int(digits) % 97}[kind]
    return check_line(kind, digits, value)


def checksums_roots(text: str) -> str | None:
    """Like `checksums`, but it adds digits up until one is left."""
    asked = check_in(text)
    return check_line(*asked, 1 + (int(asked[1]) - 1) % 9) if asked else None


def checksums_left(text: str) -> str | None:
    """Like `checksums`, but it doubles the wrong digits of Luhn's sum and takes remainders by 99."""
    asked = check_in(text)
    if asked is None:
        return None
    kind, digits = asked
    value = {"luhn": luhn_digit(digits, 1), "digits": sum(map(int, digits)), "remainder": int(digits) % 99}[kind]
    return check_line(kind, digits, value)


# region generated by generate.py


def statistics_rubbish(text: str) -> str | None:
    """Like `statistics`, but it answers rubbish."""
    if statistics(text) is None:
        return None
    return "#ERR 0x7f3a;; NaN NaN -1.#IND"


def combinatorics_crash(text: str) -> str | None:
    """Like `combinatorics`, but it raises when it is needed."""
    if combinatorics(text) is None:
        return None
    raise RuntimeError("no licence for this machine")


def checksums_stuck(text: str) -> str | None:
    """Like `checksums`, but it never comes back when it is needed."""
    import time

    if checksums(text) is None:
        return None
    time.sleep(3600)
    return None


def suite_1(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (checksums, combinatorics, sorting, statistics_unsorted)
    return next((said for part in parts if (said := part(text))), None)


def suite_2(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (checksums, combinatorics, sorting, statistics)
    return next((said for part in parts if (said := part(text))), None)


def suite_3(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (checksums, combinatorics, statistics)
    return next((said for part in parts if (said := part(text))), None)


# endregion
