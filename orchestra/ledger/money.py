"""Amounts of money: integers in nano-USD inside, decimals at the edges, floats nowhere.

A float cannot hold a tenth of a dollar, and a sum of many is off by more than a cheap call costs. What has to be
rounded is rounded up, so that a sum of rounded prices never understates what is owed.
"""

from decimal import Decimal, InvalidOperation

from orchestra.errors import InputError

NANO_PER_USD = 1_000_000_000
"""Nano-USD in one dollar."""


def nano(usd: Decimal | str | int) -> int:
    """`usd` dollars in nano-USD, rounded up.

    >>> nano("0.1"), nano(3), nano("0.0000000001")
    (100000000, 3000000000, 1)

    Raises:
        TypeError: for a float, which has lost the amount already.
        InputError: when it is not a finite number, or negative.
    """
    amount = decimal_usd(usd)
    top, bottom = amount.as_integer_ratio()
    return -(-top * NANO_PER_USD // bottom)


def decimal_usd(amount: Decimal | str | int) -> Decimal:
    """`amount` dollars as a decimal: finite, at least zero.

    Raises:
        TypeError: for a float.
        InputError: when it is not a finite number, or negative.
    """
    if isinstance(amount, bool) or not isinstance(amount, Decimal | str | int):
        raise TypeError(f"money is a Decimal, a str or an int, got {amount!r}; write it in quotes to keep it exact")
    try:
        value = Decimal(amount)
    except InvalidOperation:
        raise InputError(f"{amount!r} is not an amount in USD; write a number such as 0.25") from None
    if not value.is_finite() or value < 0:
        raise InputError(f"an amount in USD is finite and at least zero, got {amount!r}")
    return value


def usd(nano: int) -> Decimal:
    """`nano` nano-USD in dollars, exactly.

    >>> usd(12_300_000)
    Decimal('0.0123')
    """
    whole, rest = divmod(abs(nano), NANO_PER_USD)
    sign = "-" if nano < 0 else ""
    return Decimal(f"{sign}{whole}.{rest:09d}".rstrip("0").rstrip("."))


def show_usd(nano: int) -> str:
    """`nano` nano-USD for people: cents always, four decimals when they say something, three digits of what is tiny.

    >>> [show_usd(n) for n in (0, 30_000_000_000, 12_300_000, 1_234_567_890, 1_234, -12_300_000)]
    ['$0.00', '$30.00', '$0.0123', '$1.2346', '$0.00000123', '-$0.0123']
    """
    amount = usd(abs(nano))
    places = 4 if not amount or amount >= Decimal("0.001") else 2 - amount.adjusted()
    text = f"{amount:.{places}f}"
    while text.endswith("0") and len(text) - text.index(".") > 3:
        text = text[:-1]
    return f"{'-' if nano < 0 else ''}${text}"
