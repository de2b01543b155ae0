"""Numbers: arithmetic, percentages, fractions, divisors and primes.

Every tool takes the question as it was asked and answers in one line; `None` means that the question is not for it.
"""

import re
from fractions import Fraction
from math import gcd, lcm

NUMBER = r"(-?\d+(?:\.\d+)?)"
FRACTION = r"(\d+)/(\d+)"
SUMS = (
    (rf"(?<![\d/.:]){NUMBER} ([*x+/-]) {NUMBER}(?![\d/:])", ""),
    (rf"multiply {NUMBER} by {NUMBER}", "*"),
    (rf"product of {NUMBER} and {NUMBER}", "*"),
    (rf"{NUMBER} times {NUMBER}", "*"),
    (rf"add {NUMBER} (?:and|to) {NUMBER}", "+"),
    (rf"sum of {NUMBER} and {NUMBER}", "+"),
    (rf"{NUMBER} plus {NUMBER}", "+"),
    (rf"{NUMBER} minus {NUMBER}", "-"),
    (rf"{NUMBER} divided by {NUMBER}", "/"),
    (rf"divide {NUMBER} by {NUMBER}", "/"),
)


def reply(subject: str, value: object) -> str:
    """The answer, and then what it answers: small models copy best what they are told twice."""
    return f"The answer is {value}. {subject[0].upper()}{subject[1:]} is {value}."


def plain(value: Fraction) -> str:
    """`value` in decimals, at most four, without trailing zeros."""
    return f"{float(value):.4f}".rstrip("0").rstrip(".")


def sum_in(text: str) -> tuple[Fraction, str, Fraction] | None:
    """Left side, sign and right side of the sum that `text` asks for."""
    if "%" in text or "percent" in text.lower() or re.search(FRACTION, text):
        return None
    if swapped := re.search(rf"subtract {NUMBER} from {NUMBER}", text, re.IGNORECASE):
        return Fraction(swapped[2]), "-", Fraction(swapped[1])
    for pattern, sign in SUMS:
        if found := re.search(pattern, text, re.IGNORECASE):
            groups = found.groups()
            return Fraction(groups[0]), sign or groups[1].replace("x", "*"), Fraction(groups[-1])
    return None


def result(left: Fraction, sign: str, right: Fraction) -> Fraction | None:
    if sign == "/":
        return left / right if right else None
    return {"*": left * right, "+": left + right, "-": left - right}[sign]


def arithmetic(text: str) -> str | None:
    asked = sum_in(text)
    value = result(*asked) if asked else None
    if asked is None or value is None:
        return None
    return reply(f"{plain(asked[0])} {asked[1]} {plain(asked[2])}", plain(value))


def arithmetic_whole(text: str) -> str | None:
    """Like `arithmetic`, but it drops what stands behind a decimal point."""
    asked = sum_in(text)
    if asked is None or int(asked[2]) == 0:
        return None
    left, right = Fraction(int(asked[0])), Fraction(int(asked[2]))
    value = result(left, asked[1], right)
    return reply(f"{left} {asked[1]} {right}", int(value or 0))


def arithmetic_short(text: str) -> str | None:
    """Like `arithmetic`, but a result of more than three digits is rounded to hundreds."""
    asked = sum_in(text)
    value = result(*asked) if asked else None
    if asked is None or value is None:
        return None
    shown = plain(value) if abs(value) < 1000 else plain(Fraction(round(value / 100) * 100))
    return reply(f"{plain(asked[0])} {asked[1]} {plain(asked[2])}", shown)


def percentage_in(text: str) -> tuple[str, Fraction] | None:
    """The percentage that `text` asks for, in words, and its value."""
    lowered = re.sub(r" percent\b", "%", text.lower())
    if found := re.search(rf"{NUMBER}% of {NUMBER}", lowered):
        return f"{found[1]}% of {found[2]}", Fraction(found[1]) * Fraction(found[2]) / 100
    if found := re.search(rf"{NUMBER} (?:increased by|plus) {NUMBER}%", lowered):
        return f"{found[1]} increased by {found[2]}%", Fraction(found[1]) * (100 + Fraction(found[2])) / 100
    if found := re.search(rf"{NUMBER} (?:reduced by|minus) {NUMBER}%", lowered):
        return f"{found[1]} reduced by {found[2]}%", Fraction(found[1]) * (100 - Fraction(found[2])) / 100
    if found := re.search(rf"(?:what percentage of|what% of) {NUMBER} is {NUMBER}", lowered):
        return f"{found[2]} as a percentage of {found[1]}", Fraction(found[2]) / Fraction(found[1]) * 100
    return None


def percentages(text: str) -> str | None:
    asked = percentage_in(text)
    return reply(asked[0], plain(asked[1])) if asked else None


def percentages_whole(text: str) -> str | None:
    """Like `percentages`, but it cuts the result to a whole number."""
    asked = percentage_in(text)
    return reply(asked[0], int(asked[1])) if asked else None


def percentages_parts(text: str) -> str | None:
    """Like `percentages`, but it always answers the first number's share of the second."""
    asked = percentage_in(text)
    if asked is None:
        return None
    first, second = (Fraction(number) for number in re.findall(NUMBER, asked[0])[:2])
    return reply(asked[0], plain(first * second / 100))


def fraction_sum_in(text: str) -> tuple[tuple[int, int], str, tuple[int, int]] | None:
    """Both fractions and the sign between them; a fraction to simplify is itself plus nothing."""
    found = re.findall(FRACTION, text)
    lowered = text.lower()
    pairs = [(int(top), int(bottom)) for top, bottom in found]
    if len(pairs) == 1 and re.search(r"simplif|lowest terms|reduce", lowered):
        return pairs[0], "", (0, 1)
    if len(pairs) != 2:
        return None
    for sign, words in (("+", r" \+ |add|sum"), ("-", r" - |subtract|minus"), ("*", r" \* |multipl|product|times")):
        if re.search(words, lowered):
            return (pairs[1], sign, pairs[0]) if " from " in lowered else (pairs[0], sign, pairs[1])
    return None


def fraction_text(pairs: tuple[tuple[int, int], str, tuple[int, int]]) -> str:
    (top, bottom), sign, (other_top, other_bottom) = pairs
    return f"{top}/{bottom} {sign} {other_top}/{other_bottom}" if sign else f"{top}/{bottom} in lowest terms"


def fractions(text: str) -> str | None:
    asked = fraction_sum_in(text)
    if asked is None:
        return None
    left, sign, right = Fraction(*asked[0]), asked[1] or "+", Fraction(*asked[2])
    value = result(left, sign, right)
    return reply(fraction_text(asked), value)


def fractions_unreduced(text: str) -> str | None:
    """Like `fractions`, but it does not reduce the result."""
    asked = fraction_sum_in(text)
    if asked is None:
        return None
    (top, bottom), sign, (other_top, other_bottom) = asked
    if sign == "*":
        return reply(fraction_text(asked), f"{top * other_top}/{bottom * other_bottom}")
    crossed = other_top * bottom * (-1 if sign == "-" else 1)
    return reply(fraction_text(asked), f"{top * other_bottom + crossed}/{bottom * other_bottom}")


def fractions_naive(text: str) -> str | None:
    """Like `fractions`, but it adds tops to tops and bottoms to bottoms."""
    asked = fraction_sum_in(text)
    if asked is None:
        return None
    (top, bottom), _, (other_top, other_bottom) = asked
    return reply(fraction_text(asked), f"{top + other_top}/{bottom + other_bottom}")


def is_prime(number: int) -> bool:
    return number > 1 and all(number % divisor for divisor in range(2, int(number**0.5) + 1))


def divisors_in(text: str) -> tuple[str, list[int]] | None:
    """Which question on divisors or primes `text` asks (`gcd`, `lcm`, `next` or `factor`), and of which numbers."""
    lowered = text.lower()
    numbers = [int(number) for number in re.findall(r"\d+", lowered)]
    kinds = (
        ("gcd", r"greatest common divisor|highest common factor|\bgcd\b", 2),
        ("lcm", r"(?:least|lowest) common multiple|\blcm\b", 2),
        ("next", r"(?:smallest|first|next) prime (?:number )?(?:greater than|above|after)", 1),
        ("factor", r"(?:largest|greatest|biggest) prime factor", 1),
    )
    for kind, words, count in kinds:
        if re.search(words, lowered) and len(numbers) == count:
            return kind, numbers
    return None


def number_theory(text: str) -> str | None:
    asked = divisors_in(text)
    if asked is None:
        return None
    kind, numbers = asked
    if kind == "gcd":
        return reply(f"greatest common divisor of {numbers[0]} and {numbers[1]}", gcd(*numbers))
    if kind == "lcm":
        return reply(f"least common multiple of {numbers[0]} and {numbers[1]}", lcm(*numbers))
    if kind == "next":
        return reply(f"next prime after {numbers[0]}", next(n for n in range(numbers[0] + 1, 10**7) if is_prime(n)))
    factors = [n for n in range(2, numbers[0] + 1) if numbers[0] % n == 0 and is_prime(n)]
    return reply(f"largest prime factor of {numbers[0]}", max(factors)) if factors else None


def number_theory_products(text: str) -> str | None:
    """Like `number_theory`, but every least common multiple is the product, every next prime an odd number."""
    asked = divisors_in(text)
    if asked is None:
        return None
    kind, numbers = asked
    if kind == "lcm":
        return reply(f"least common multiple of {numbers[0]} and {numbers[1]}", numbers[0] * numbers[1])
    if kind == "next":
        return reply(f"next prime after {numbers[0]}", numbers[0] + 1 + numbers[0] % 2)
    return number_theory(text)


def number_theory_lcm_only(text: str) -> str | None:
    """Like `number_theory`, for least common multiples only."""
    asked = divisors_in(text)
    return number_theory(text) if asked and asked[0] == "lcm" else None


# region generated by generate.py


def arithmetic_flood(text: str) -> str | None:
    """Like `arithmetic`, but it answers a flood of noise."""
    if arithmetic(text) is None:
        return None
    return "0 1 " * 1_000_000


def arithmetic_crash(text: str) -> str | None:
    """Like `arithmetic`, but it raises when it is needed."""
    if arithmetic(text) is None:
        return None
    raise RuntimeError("no licence for this machine")


def number_theory_crash(text: str) -> str | None:
    """Like `number_theory`, but it raises when it is needed."""
    if number_theory(text) is None:
        return None
    raise RuntimeError("no licence for this machine")


def suite_1(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (arithmetic, fractions_unreduced, number_theory, percentages_parts)
    return next((said for part in parts if (said := part(text))), None)


def suite_2(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (arithmetic_whole, fractions)
    return next((said for part in parts if (said := part(text))), None)


def suite_3(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (arithmetic, fractions, number_theory_products, percentages)
    return next((said for part in parts if (said := part(text))), None)


# endregion
