"""Notation: number bases, roman numerals, Morse code and character codes.

Every tool takes the question as it was asked and answers in one line; `None` means that the question is not for it.
"""

import re

BASES = {"binary": 2, "octal": 8, "hexadecimal": 16, "hex": 16}
ROMAN = (
    (1000, "M"),
    (900, "CM"),
    (500, "D"),
    (400, "CD"),
    (100, "C"),
    (90, "XC"),
    (50, "L"),
    (40, "XL"),
    (10, "X"),
    (9, "IX"),
    (5, "V"),
    (4, "IV"),
    (1, "I"),
)
MORSE_LETTERS = (
    ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.."
)
MORSE = dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", MORSE_LETTERS.split(), strict=True))


def reply(subject: str, value: object) -> str:
    """The answer, and then what it answers: small models copy best what they are told twice."""
    return f"The answer is {value}. {subject[0].upper()}{subject[1:]} is {value}."


def digits_in_base(number: int, base: int) -> str:
    return format(number, {2: "b", 8: "o", 16: "X"}[base])


def base_in(text: str) -> tuple[str, str, str] | None:
    """Direction (`to` or `from` decimal), base and digits that `text` asks for."""
    found = re.search(r"\b(binary|octal|hexadecimal|hex)\b", text, re.IGNORECASE)
    if found is None:
        return None
    name = found[1].lower()
    if back := re.search(rf"{name} (?:number )?([0-9a-f]+)\b.*(?:decimal|base ten)", text, re.IGNORECASE):
        return "from", name, back[1]
    if back := re.search(rf"decimal.*\b{name} (?:number )?([0-9a-f]*\d[0-9a-f]*)\b", text, re.IGNORECASE):
        return "from", name, back[1]
    if number := re.search(r"\b(\d+)\b", text):
        return "to", name, number[1]
    return None


def number_bases(text: str) -> str | None:
    asked = base_in(text)
    if asked is None:
        return None
    direction, name, digits = asked
    if direction == "to":
        return reply(f"{digits} in {name}", digits_in_base(int(digits), BASES[name]))
    return reply(f"{name} {digits} in decimal", int(digits, BASES[name]))


def number_bases_byte(text: str) -> str | None:
    """Like `number_bases`, but only the lowest six bits of a number count."""
    asked = base_in(text)
    if asked is None:
        return None
    direction, name, digits = asked
    if direction == "to":
        return reply(f"{digits} in {name}", digits_in_base(int(digits) % 64, BASES[name]))
    return reply(f"{name} {digits} in decimal", int(digits, BASES[name]) % 64)


def number_bases_backwards(text: str) -> str | None:
    """Like `number_bases`, but the digits come in the wrong order."""
    asked = base_in(text)
    if asked is None:
        return None
    direction, name, digits = asked
    if direction == "to":
        return reply(f"{digits} in {name}", digits_in_base(int(digits), BASES[name])[::-1])
    return reply(f"{name} {digits} in decimal", int(digits[::-1], BASES[name]))


def roman(number: int) -> str:
    letters = ""
    for value, letter in ROMAN:
        count, number = divmod(number, value)
        letters += letter * count
    return letters


def roman_in(text: str) -> str | int | None:
    """The number to write in roman numerals, or the numeral to read."""
    if "roman" not in text.lower():
        return None
    if number := re.search(r"\b(\d{1,4})\b", text):
        return int(number[1])
    numeral = re.search(r"\b([MDCLXVI]{2,})\b", text)
    return numeral[1] if numeral else None


def roman_value(numeral: str) -> int:
    values = [dict(zip("IVXLCDM", (1, 5, 10, 50, 100, 500, 1000), strict=True))[letter] for letter in numeral]
    following = [*values[1:], 0]
    return sum(-value if value < after else value for value, after in zip(values, following, strict=True))


def roman_numerals(text: str) -> str | None:
    asked = roman_in(text)
    if asked is None:
        return None
    if isinstance(asked, int):
        return reply(f"{asked} in roman numerals", roman(asked))
    return reply(f"roman numeral {asked}", roman_value(asked))


def roman_numerals_additive(text: str) -> str | None:
    """Like `roman_numerals`, but it does not know that IV is four."""
    asked = roman_in(text)
    if asked is None:
        return None
    if isinstance(asked, int):
        letters, rest = "", asked
        for value, letter in ((1000, "M"), (500, "D"), (100, "C"), (50, "L"), (10, "X"), (5, "V"), (1, "I")):
            count, rest = divmod(rest, value)
            letters += letter * count
        return reply(f"{asked} in roman numerals", letters)
    values = dict(zip("IVXLCDM", (1, 5, 10, 50, 100, 500, 1000), strict=True))
    return reply(f"roman numeral {asked}", sum(values[letter] for letter in asked))


def roman_numerals_reader(text: str) -> str | None:
    """Like `roman_numerals`, but it reads only."""
    return roman_numerals(text) if isinstance(roman_in(text), str) else None


def morse_in(text: str) -> str | None:
    """The word to write in Morse code, or the code to read."""
    if "morse" not in text.lower():
        return None
    if code := re.search(r"(?<![\w.-])([.-]+(?: [.-]+)+)", text):
        return code[1]
    word = re.search(r"['\"]([A-Za-z]+)['\"]", text)
    return word[1].upper() if word else None


def morse(text: str) -> str | None:
    asked = morse_in(text)
    if asked is None:
        return None
    if asked.isalpha():
        return reply(f"{asked} in Morse code", " ".join(MORSE[letter] for letter in asked))
    letters = {code: letter for letter, code in MORSE.items()}
    return reply(f"Morse code {asked}", "".join(letters.get(code, "?") for code in asked.split()))


def morse_half(text: str) -> str | None:
    """Like `morse`, but it knows the letters up to M only."""
    asked = morse_in(text)
    if asked is None:
        return None
    if asked.isalpha():
        return reply(f"{asked} in Morse code", " ".join(MORSE[letter] if letter < "N" else "-" for letter in asked))
    letters = {code: letter for letter, code in MORSE.items() if letter < "N"}
    return reply(f"Morse code {asked}", "".join(letters.get(code, "") for code in asked.split()))


def morse_writer(text: str) -> str | None:
    """Like `morse`, but it writes only."""
    asked = morse_in(text)
    return morse(text) if asked and asked.isalpha() else None


def character_in(text: str) -> str | int | None:
    """The character whose code is asked for, or the code whose character is."""
    if not re.search(r"\bascii\b|character code", text, re.IGNORECASE):
        return None
    if character := re.search(r"'(.)'", text):
        return character[1]
    code = re.search(r"\b(\d{2,3})\b", text)
    return int(code[1]) if code else None


def character_codes(text: str) -> str | None:
    asked = character_in(text)
    if asked is None:
        return None
    return (
        reply(f"ASCII code {asked}", f"'{chr(asked)}'")
        if isinstance(asked, int)
        else reply(f"ASCII code of '{asked}'", ord(asked))
    )


def character_codes_shifted(text: str) -> str | None:
    """Like `character_codes`, but it counts from one."""
    asked = character_in(text)
    if asked is None:
        return None
    if isinstance(asked, int):
        return reply(f"ASCII code {asked}", f"'{chr(asked - 1)}'")
    return reply(f"ASCII code of '{asked}'", ord(asked) + 1)


def character_codes_capitals(text: str) -> str | None:
    """Like `character_codes`, but it takes every letter for a capital."""
    asked = character_in(text)
    if asked is None:
        return None
    if isinstance(asked, int):
        return reply(f"ASCII code {asked}", f"'{chr(asked).upper()}'")
    return reply(f"ASCII code of '{asked}'", ord(asked.upper()))


# region generated by generate.py


def number_bases_rubbish(text: str) -> str | None:
    """Like `number_bases`, but it answers rubbish."""
    if number_bases(text) is None:
        return None
    return "#ERR 0x7f3a;; NaN NaN -1.#IND"


def roman_numerals_advice(text: str) -> str | None:
    """Like `roman_numerals`, but it answers with advice."""
    if roman_numerals(text) is None:
        return None
    return "this is easy: look at the question carefully and work it out step by step"


def morse_quota(text: str) -> str | None:
    """Like `morse`, but it asks for money instead."""
    if morse(text) is None:
        return None
    return "your free quota is used up; upgrade to continue"


def morse_rubbish(text: str) -> str | None:
    """Like `morse`, but it answers rubbish."""
    if morse(text) is None:
        return None
    return "#ERR 0x7f3a;; NaN NaN -1.#IND"


def character_codes_advice(text: str) -> str | None:
    """Like `character_codes`, but it answers with advice."""
    if character_codes(text) is None:
        return None
    return "this is easy: look at the question carefully and work it out step by step"


def suite_1(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (character_codes, morse, number_bases, roman_numerals)
    return next((said for part in parts if (said := part(text))), None)


def suite_2(text: str) -> str | None:
    """The first of its parts that has something to say."""
    parts = (morse, number_bases)
    return next((said for part in parts if (said := part(text))), None)


# endregion
