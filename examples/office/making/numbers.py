"""Questions on numbers: sums, percentages, fractions, primes, notations, statistics, choices and check digits."""

from fractions import Fraction
from math import comb, factorial, gcd, lcm, perm
from random import Random
from statistics import mean, median

from making.questions import Maker, Office, Question, decimal


def arithmetic(rng: Random, office: Office, kind: int) -> Question:
    kind %= 4
    if kind == 0:
        a, b = rng.randint(13, 99), rng.randint(13, 99)
        forms = (
            "What is {a} * {b}?",
            "Multiply {a} by {b}.",
            "What is the product of {a} and {b}?",
            "How much is {a} times {b}?",
        )
        return Question(office.say(rng, *forms, a=a, b=b), str(a * b))
    if kind == 1:
        a, b = rng.randint(1200, 9800), rng.randint(250, 4900)
        forms = ("Compute {a} + {b}.", "What is the sum of {a} and {b}?", "Add {a} and {b}.")
        return Question(office.say(rng, *forms, a=a, b=b), str(a + b))
    if kind == 2:
        a, b = rng.randint(120, 990), rng.randint(1200, 9800)
        forms = ("Subtract {a} from {b}.", "How much is {b} minus {a}?", "What is {b} - {a}?")
        return Question(office.say(rng, *forms, a=a, b=b), str(b - a))
    a, b = rng.randint(21, 199) / 10, rng.randint(3, 29)
    forms = ("What is {a} * {b}?", "Multiply {a} by {b}.", "How much is {a} times {b}?")
    return Question(office.say(rng, *forms, a=a, b=b), decimal(a * b))


def percentages(rng: Random, office: Office, kind: int) -> Question:
    rate, whole = rng.randint(3, 19) * 5 + rng.choice((0, 1, 2)), rng.randint(12, 95) * 10
    if kind % 3 == 0:
        forms = ("What is {p}% of {n}?", "How much is {p} percent of {n}?", "Work out {p}% of {n}.")
        return Question(office.say(rng, *forms, p=rate, n=whole), decimal(rate * whole / 100))
    if kind % 3 == 1:
        up = rng.random() < 0.5
        forms = ("What is {n} increased by {p}%?", "How much is {n} plus {p}%?")
        if not up:
            forms = ("What is {n} reduced by {p}%?", "How much is {n} minus {p}%?")
        return Question(
            office.say(rng, *forms, p=rate, n=whole), decimal(whole * (100 + rate * (1 if up else -1)) / 100)
        )
    forms = ("What percentage of {n} is {m}?", "What percent of {n} is {m}?")
    return Question(office.say(rng, *forms, n=whole * 10, m=whole * rate // 10), str(rate))


def fractions(rng: Random, office: Office, kind: int) -> Question:
    bottoms = rng.sample((4, 6, 8, 9, 10, 12, 15), 2)
    left, right = ((rng.randint(1, bottom - 1), bottom) for bottom in bottoms)
    a, b = f"{left[0]}/{left[1]}", f"{right[0]}/{right[1]}"
    if kind % 3 == 0:
        forms = (
            "What is {a} + {b} as a fraction?",
            "Add the fractions {a} and {b}.",
            "What is the sum of {a} and {b} as a fraction?",
        )
        value = Fraction(*left) + Fraction(*right)
    elif kind % 3 == 1:
        forms = (
            "What is {a} * {b} as a fraction in lowest terms?",
            "Multiply the fractions {a} and {b} and reduce the result.",
        )
        value = Fraction(*left) * Fraction(*right)
    else:
        factor = rng.randint(6, 19)
        top, bottom = rng.choice(((2, 3), (3, 4), (2, 5), (5, 6), (3, 7), (5, 8), (4, 9), (7, 9)))
        a, value = f"{top * factor}/{bottom * factor}", Fraction(top, bottom)
        forms = ("Simplify the fraction {a}.", "Write {a} in lowest terms.", "Reduce {a} to lowest terms.")
    return Question(office.say(rng, *forms, a=a, b=b), str(value), "contains")


def largest_prime_factor(number: int) -> int:
    divisor, rest = 2, number
    while divisor * divisor <= rest:
        if rest % divisor:
            divisor += 1
        else:
            rest //= divisor
    return rest


def number_theory(rng: Random, office: Office, kind: int) -> Question:
    shared = rng.randint(3, 14)
    a, b = (shared * factor for factor in rng.sample(range(3, 17), 2))
    if kind % 4 == 0:
        forms = (
            "What is the greatest common divisor of {a} and {b}?",
            "Find the highest common factor of {a} and {b}.",
        )
        return Question(office.say(rng, *forms, a=a, b=b), str(gcd(a, b)))
    if kind % 4 == 1:
        forms = ("What is the least common multiple of {a} and {b}?", "Find the lowest common multiple of {a} and {b}.")
        return Question(office.say(rng, *forms, a=a, b=b), str(lcm(a, b)))
    number = rng.randint(90, 990)
    if kind % 4 == 2:
        forms = (
            "What is the smallest prime greater than {n}?",
            "Which is the first prime number after {n}?",
            "Name the next prime above {n}.",
        )
        value = next(n for n in range(number + 1, 2 * number) if largest_prime_factor(n) == n)
    else:
        forms = ("What is the largest prime factor of {n}?", "Find the greatest prime factor of {n}.")
        value = largest_prime_factor(number)
    return Question(office.say(rng, *forms, n=number), str(value))


def number_bases(rng: Random, office: Office, kind: int) -> Question:
    number = rng.randint(33, 250)
    if kind % 3 == 0:
        forms = ("Write {n} in binary.", "What is {n} in binary?", "Convert the number {n} to binary.")
        return Question(office.say(rng, *forms, n=number), bin(number)[2:], "contains")
    if kind % 3 == 1:
        forms = ("Write {n} in hexadecimal.", "What is {n} in hexadecimal?", "Convert the number {n} to hexadecimal.")
        return Question(office.say(rng, *forms, n=number), f"{number:X}", "contains")
    forms = (
        "Which decimal number is binary {b}?",
        "Convert binary {b} to decimal.",
        "What is the binary number {b} in decimal?",
    )
    return Question(office.say(rng, *forms, b=bin(number)[2:]), str(number))


def to_roman(number: int) -> str:
    tens = ("", "X", "XX", "XXX", "XL", "L", "LX", "LXX", "LXXX", "XC")
    ones = ("", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX")
    hundreds = ("", "C", "CC", "CCC", "CD", "D", "DC", "DCC", "DCCC", "CM")
    return "M" * (number // 1000) + hundreds[number // 100 % 10] + tens[number // 10 % 10] + ones[number % 10]


def roman_numerals(rng: Random, office: Office, kind: int) -> Question:
    number = rng.randint(41, 2200)
    if kind % 2 == 0:
        forms = (
            "Write {n} in roman numerals.",
            "What is {n} as a roman numeral?",
            "How is {n} written in roman numerals?",
        )
        return Question(office.say(rng, *forms, n=number), to_roman(number), "contains")
    forms = (
        "Which number is the roman numeral {r}?",
        "What does the roman numeral {r} stand for?",
        "Read the roman numeral {r} as a number.",
    )
    return Question(office.say(rng, *forms, r=to_roman(number)), str(number))


def statistics(rng: Random, office: Office, kind: int) -> Question:
    # An even count, so that the median is not one of the numbers.
    numbers = rng.sample(range(3, 98), rng.choice((4, 6)))
    listed = ", ".join(map(str, numbers))
    if kind % 3 == 0:
        forms = ("What is the mean of {n}?", "Find the average of these numbers, to two decimals: {n}.")
        return Question(office.say(rng, *forms, n=listed), decimal(mean(numbers) + 1e-9))
    if kind % 3 == 1:
        forms = ("What is the median of {n}?", "Find the median of these numbers: {n}.")
        return Question(office.say(rng, *forms, n=listed), decimal(median(numbers)))
    forms = ("What is the range of {n}?", "Find the range of these numbers: {n}.")
    return Question(office.say(rng, *forms, n=listed), str(max(numbers) - min(numbers)))


def combinatorics(rng: Random, office: Office, kind: int) -> Question:
    whole, part = rng.randint(7, 12), rng.randint(3, 4)
    if kind % 3 == 0:
        forms = (
            "In how many ways can {k} people be chosen from {n}?",
            "How many different committees of {k} can be formed from {n} people?",
        )
        value = comb(whole, part)
    elif kind % 3 == 1:
        whole = rng.randint(4, 8)
        forms = ("In how many orders can {n} books stand on a shelf?", "What is the factorial of {n}?")
        value = factorial(whole)
    else:
        forms = (
            "In how many ways can {k} of {n} runners finish on the podium when order matters?",
            "How many ways are there to fill {k} ranked posts from {n} applicants?",
        )
        value = perm(whole, part)
    return Question(office.say(rng, *forms, n=whole, k=part), str(value))


def luhn(digits: str) -> int:
    doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(digits))]
    return (10 - sum(value // 10 + value % 10 for value in doubled) % 10) % 10


def checksums(rng: Random, office: Office, kind: int) -> Question:
    digits = str(rng.randint(10_000, 9_999_999))
    if kind % 3 == 0:
        forms = ("What is the digit sum of {d}?", "Find the sum of the digits of {d}.")
        value = sum(int(digit) for digit in digits)
    elif kind % 3 == 1:
        forms = ("What is the Luhn check digit for {d}?", "Which Luhn check digit belongs to {d}?")
        value = luhn(digits)
    else:
        forms = ("What is {d} modulo 97?", "Work out the check number {d} mod 97.")
        value = int(digits) % 97
    return Question(office.say(rng, *forms, d=digits), str(value))


MAKERS: dict[str, Maker] = {
    "arithmetic": arithmetic,
    "percentages": percentages,
    "fractions": fractions,
    "number-theory": number_theory,
    "number-bases": number_bases,
    "roman-numerals": roman_numerals,
    "statistics": statistics,
    "combinatorics": combinatorics,
    "checksums": checksums,
}
