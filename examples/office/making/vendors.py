"""Names of vendors, which say nothing about what they sell."""

from random import Random

VENDORS = [
    "acme",
    "apex",
    "arrow",
    "atlas",
    "aurora",
    "beacon",
    "birch",
    "bright",
    "cedar",
    "cobalt",
    "comet",
    "copper",
    "coral",
    "crisp",
    "delta",
    "ember",
    "falcon",
    "fern",
    "flint",
    "harbor",
    "hazel",
    "iris",
    "jade",
    "keen",
    "lark",
    "lotus",
    "maple",
    "meteor",
    "mint",
    "neat",
    "noble",
    "north",
    "nova",
    "oak",
    "onyx",
    "opal",
    "orbit",
    "pearl",
    "pilot",
    "pine",
    "plain",
    "prime",
    "quick",
    "ridge",
    "river",
    "sage",
    "solid",
    "spark",
    "swift",
    "tidy",
    "true",
    "ultra",
    "vega",
    "velvet",
    "vivid",
    "willow",
    "zen",
    "zephyr",
]


def name(rng: Random, noun: str, taken: set[str]) -> str:
    """A product name with `noun` in it that nobody has taken yet; it is added to `taken`."""
    free = [f"{vendor}-{noun}" for vendor in VENDORS if f"{vendor}-{noun}" not in taken]
    chosen = rng.choice(free)
    taken.add(chosen)
    return chosen
