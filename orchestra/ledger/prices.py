"""What a token costs, prompt and reply apart, in integers.

A price from a provider is stated per million tokens. A machine of one's own has a price per hour; its tokens cost what
the hour costs divided by the tokens it was measured to read or write in one.
"""

from dataclasses import dataclass
from decimal import Decimal
from typing import Self

from orchestra.errors import InputError
from orchestra.ledger.money import NANO_PER_USD, decimal_usd, nano

DEFAULT_MACHINE_USD_PER_HOUR = Decimal("0.10")
"""What an hour of a machine of one's own is taken to cost where nobody says otherwise."""

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """What a model's tokens cost.

    Raises:
        InputError: when a price is negative.
    """

    input_nano_per_million: int
    """Nano-USD for 1,000,000 prompt tokens."""
    output_nano_per_million: int
    """Nano-USD for 1,000,000 tokens of replies."""
    source: str
    """Where the figures come from and of which day, for the certificate."""
    long_prompt_tokens: int | None = None
    """A call whose prompt has more tokens costs the two prices below, its reply too; `None` means no prompt does."""
    long_input_nano_per_million: int = 0
    long_output_nano_per_million: int = 0

    def __post_init__(self) -> None:
        long = (self.long_input_nano_per_million, self.long_output_nano_per_million)
        for amount in (self.input_nano_per_million, self.output_nano_per_million, *long):
            if type(amount) is not int:
                raise TypeError(f"a price is an integer in nano-USD per million tokens, got {amount!r}")
            if amount < 0:
                raise InputError(f"a price is at least zero, got {amount} nano-USD per million tokens ({self.source})")

    @classmethod
    def per_million(cls, input_usd: Decimal | str | int, output_usd: Decimal | str | int, *, source: str) -> Self:
        """A price as providers state it: dollars for a million tokens.

        Raises:
            TypeError: for a float.
            InputError: when an amount is negative or not a number.
        """
        return cls(nano(input_usd), nano(output_usd), source)

    @classmethod
    def from_speed(
        cls,
        machine_usd_per_hour: Decimal | str | int,
        input_tokens_per_second: float,
        output_tokens_per_second: float,
        *,
        source: str,
    ) -> Self:
        """The price of tokens made on a machine that costs `machine_usd_per_hour`, rounded up.

        Args:
            machine_usd_per_hour: what an hour costs, whether it computes or not.
            input_tokens_per_second: prompt tokens it was measured to read in a second.
            output_tokens_per_second: tokens it was measured to write in a second.
            source: which measurement, and when.

        Raises:
            InputError: when a speed is not above zero.
        """
        hour = decimal_usd(machine_usd_per_hour)
        speeds = (input_tokens_per_second, output_tokens_per_second)
        if not all(0 < speed < float("inf") for speed in speeds):
            raise InputError(f"tokens per second are above zero, got {speeds} ({source}); measure them again")

        def for_a_million(speed: float) -> int:
            top, bottom = hour.as_integer_ratio()
            tokens, seconds = float(speed).as_integer_ratio()
            return -(-top * NANO_PER_USD * _MILLION * seconds // (bottom * tokens * 3600))

        return cls(for_a_million(input_tokens_per_second), for_a_million(output_tokens_per_second), source)

    def cost(self, input_tokens: int, output_tokens: int, *, calls: int = 1) -> int:
        """Nano-USD of one call, or of `calls` calls alike together, rounded up once.

        >>> Price.per_million("0.15", "0.60", source="example").cost(1_000, 500)
        450000

        Raises:
            ValueError: when a count is negative.
        """
        if input_tokens < 0 or output_tokens < 0:
            raise ValueError(f"tokens are counted from zero, got {input_tokens=}, {output_tokens=}")
        read, write = self.input_nano_per_million, self.output_nano_per_million
        if self.long_prompt_tokens is not None and input_tokens > calls * self.long_prompt_tokens:
            read, write = self.long_input_nano_per_million, self.long_output_nano_per_million
        owed = input_tokens * read + output_tokens * write
        return -(-owed // _MILLION)
