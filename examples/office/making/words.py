"""Questions on text and codes: counting, editing and sorting, Morse code and character codes."""

import re
from random import Random

from making.questions import Maker, Office, Question
from making.tables import names

WORDS = [
    "anchor",
    "basket",
    "candle",
    "dragon",
    "engine",
    "feather",
    "garden",
    "hammer",
    "island",
    "jacket",
    "kettle",
    "ladder",
    "magnet",
    "needle",
    "orange",
    "pepper",
    "quartz",
    "ribbon",
    "saddle",
    "tunnel",
    "velvet",
    "window",
    "yellow",
    "zipper",
    "blanket",
    "cabinet",
    "diamond",
    "elephant",
    "festival",
    "grammar",
    "harvest",
    "journal",
    "kitchen",
    "lantern",
    "monster",
    "network",
    "orchard",
    "picture",
    "quarter",
    "rainbow",
    "shelter",
    "thunder",
    "village",
    "whisper",
]
SHORT = [
    "bake",
    "crow",
    "dusk",
    "fern",
    "gold",
    "hemp",
    "jump",
    "kiln",
    "lark",
    "moth",
    "oven",
    "pine",
    "rust",
    "silk",
    "tusk",
    "vine",
    "wolf",
    "yarn",
    "cloud",
    "brick",
]
SIGNS = "ADGHJKMQRTUWYZbdefghjkmnqrtuvwyz#$&+<>?@"
CODES = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        [
            ".-",
            "-...",
            "-.-.",
            "-..",
            ".",
            "..-.",
            "--.",
            "....",
            "..",
            ".---",
            "-.-",
            ".-..",
            "--",
            "-.",
            "---",
            ".--.",
            "--.-",
            ".-.",
            "...",
            "-",
            "..-",
            "...-",
            ".--",
            "-..-",
            "-.--",
            "--..",
        ],
        strict=True,
    )
)


def word_counts(rng: Random, office: Office, kind: int) -> Question:
    sentence = " ".join(rng.sample(SHORT + WORDS, rng.randint(5, 13)))
    if kind % 3 == 0:
        forms = ("How many words are in '{s}'?", "How many words does the text '{s}' have?")
        return Question(office.say(rng, *forms, s=sentence), str(len(sentence.split())))
    if kind % 3 == 1:
        sentence = " ".join(rng.sample(WORDS, 4))
        letter = rng.choice("aenrt")
        forms = (
            "How many times does the letter {c} occur in '{s}'?",
            "How many times is the letter {c} used in '{s}'?",
        )
        return Question(office.say(rng, *forms, s=sentence, c=letter), str(sum(sign == letter for sign in sentence)))
    sentence = " ".join(rng.sample(WORDS, 3))
    forms = ("How many vowels are in '{s}'?", "How many vowels does '{s}' contain?")
    return Question(office.say(rng, *forms, s=sentence), str(len(re.findall("[aeiou]", sentence))))


def string_editing(rng: Random, office: Office, kind: int) -> Question:
    thing = rng.choice(WORDS)
    if kind % 4 == 0:
        thing = rng.choice(SHORT)
        forms = ("Reverse the string '{s}'.", "Write '{s}' backwards.", "Spell '{s}' back to front.")
        result = "".join(reversed(thing))
    elif kind % 4 == 1:
        old, new = rng.choice([sign for sign in thing if sign in "aeiou"]), rng.choice("xqzw")
        forms = ("Replace every {a} with {b} in '{s}'.", "Change every letter {a} to {b} in '{s}'.")
        result = "".join(new if sign == old else sign for sign in thing)
        return Question(office.say(rng, *forms, s=thing, a=old, b=new), result, "contains")
    if kind % 4 == 2:
        thing = " ".join([*names(rng, 1), rng.choice(("Baker", "Young", "Quinn"))])
        forms = ("What are the initials of '{s}'?", "Write the initials of '{s}'.")
        result = "".join(re.findall("[A-Z]", thing))
    else:
        forms = ("Remove all vowels from '{s}'.", "Write '{s}' without vowels.", "Drop the vowels from '{s}'.")
        result = "".join(sign for sign in thing if sign not in "aeiou")
    return Question(office.say(rng, *forms, s=thing), result, "contains")


def sorting(rng: Random, office: Office, kind: int) -> Question:
    if kind % 3 == 2:
        items = rng.sample(WORDS, 4)
        forms = ("Sort these words alphabetically: {s}.", "Put these words in alphabetical order: {s}.")
        result = sorted(items)
    else:
        numbers = [rng.randint(2, 9), *rng.sample(range(11, 99), 2), rng.randint(101, 480)]
        rng.shuffle(numbers)
        if kind % 3 == 0:
            forms = ("Sort these numbers from smallest to largest: {s}.", "Put these numbers in ascending order: {s}.")
        else:
            forms = ("Sort these numbers from largest to smallest: {s}.", "Put these numbers in descending order: {s}.")
        items = [str(number) for number in numbers]
        result = [str(number) for number in sorted(numbers, reverse=kind % 3 == 1)]
    return Question(office.say(rng, *forms, s=", ".join(items)), ", ".join(result), "contains")


def morse(rng: Random, office: Office, kind: int) -> Question:
    spelled = rng.choice(SHORT)
    code = " ".join(CODES[letter] for letter in spelled.upper())
    if kind % 3 == 2:
        spelled = spelled[:2]
        code = " ".join(CODES[letter] for letter in spelled.upper())
        forms = ("Write '{w}' in Morse code.", "How is '{w}' sent in Morse code?")
        return Question(office.say(rng, *forms, w=spelled.upper()), rf"(?<![.-]){re.escape(code)}(?![-])", "regex")
    forms = ("Which word is {c} in Morse code?", "What does the Morse code {c} spell?", "Read this Morse code: {c}")
    return Question(office.say(rng, *forms, c=code), spelled.upper(), "contains")


def character_codes(rng: Random, office: Office, kind: int) -> Question:
    sign = rng.choice(SIGNS)
    if kind % 2 == 0:
        forms = (
            "What is the ASCII code of '{s}'?",
            "Which ASCII code does '{s}' have?",
            "Give the ASCII character code of '{s}'.",
        )
        return Question(office.say(rng, *forms, s=sign), str(ord(sign)))
    forms = ("Which character has the ASCII code {n}?", "What character is ASCII {n}?")
    pattern = rf"(?:^|[\s'\"`]){re.escape(sign)}(?:['\"`.,\s]|$)"
    return Question(office.say(rng, *forms, n=ord(sign)), pattern, "regex")


MAKERS: dict[str, Maker] = {
    "word-counts": word_counts,
    "string-editing": string_editing,
    "sorting": sorting,
    "morse": morse,
    "character-codes": character_codes,
}
