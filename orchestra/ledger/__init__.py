"""Money: amounts, prices and the ledger that every call is reserved on before it is sent.

Amounts are integers in nano-USD (a thousand-millionth of a dollar); decimals exist at the edges only, floats nowhere.
"""

from orchestra.ledger.entries import Entry, Event, Lender, ReservationClosed
from orchestra.ledger.ledger import Ledger, Reservation
from orchestra.ledger.money import NANO_PER_USD, nano, show_usd, usd
from orchestra.ledger.prices import DEFAULT_MACHINE_USD_PER_HOUR, Price

__all__ = [
    "DEFAULT_MACHINE_USD_PER_HOUR",
    "NANO_PER_USD",
    "Entry",
    "Event",
    "Ledger",
    "Lender",
    "Price",
    "Reservation",
    "ReservationClosed",
    "nano",
    "show_usd",
    "usd",
]
