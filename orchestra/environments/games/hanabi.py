"""Hanabi for two, in words; small decks."""

import re

from orchestra.environments.games.texts import History, State, bare

COLOURS = {"R": "red", "Y": "yellow", "G": "green", "W": "white", "B": "blue"}


class Hanabi:
    """Cards everybody sees but whoever holds them.

    Args:
        colours: in the deck.
        ranks: of each colour.
        hand: cards in a hand.
        information: tokens for hints.
        lives: tokens for mistakes.
    """

    title = "Hanabi"
    history: History = "actions"
    draws = False

    def __init__(self, *, colours: int, ranks: int, hand: int, information: int, lives: int) -> None:
        self._colours, self._ranks, self._hand = colours, ranks, hand
        self._information, self._lives = information, lives

    def rules(self) -> tuple[str, ...]:
        """In eight lines."""
        *some, last = [f"{letter} ({COLOURS[letter]})" for letter in list(COLOURS)[: self._colours]]
        copies = ", ".join(f"{_copies(rank, self._ranks)} of rank {rank}" for rank in range(1, self._ranks + 1))
        return (
            f"You and your partner take turns and lay down cards together. Colours are {', '.join(some)} and {last}. "
            f"Each colour has {copies}.",
            "You see your partner's cards and not your own.",
            "Each colour's firework is built in order, from rank 1 upwards. Playing the card that comes next earns "
            "both of you 1 point; the last card of a firework also brings an information token back.",
            f"Playing any other card discards it and costs one of {self._lives} life tokens; when all are lost, so are "
            f"all points, and the game is over.",
            f"Revealing a colour or a rank shows your partner every card of it in the partner's hand, and costs one of "
            f"{self._information} information tokens; there must be such a card.",
            "Discarding a card brings an information token back; it is allowed only when one has been spent.",
            "Whoever plays or discards draws a card while there are any: the cards behind the one that left move up, "
            "and the new one comes last.",
            "The game is over when all fireworks are complete. When the deck is empty, each of you has one more turn.",
        )

    def player(self, seat: int) -> str:
        """The number, and what the state tells."""
        return (
            f"You are player {seat}; player +1 is your partner. Cards of a hand are counted from 0. The state is the "
            f"life and information tokens, the top rank of each firework (0 is none yet), the number of cards in the "
            f"deck, what was discarded, your partner's hand with what your partner can tell of it, and what you can "
            f"tell of your own. A colour or rank that was revealed is marked so; the rest no hint has ruled out."
        )

    def state(self, state: State, seat: int) -> str:
        """What this seat may know."""
        told = str(state.observation_string(seat))
        hands = told.partition("Hands:\n")[2].partition("Deck size:")[0].replace("Cur player\n", "")
        own, _, partner = hands.partition("-----\n")
        fireworks = _line(told, "Fireworks")
        lines = [
            f"Life tokens: {_line(told, 'Life tokens')}",
            f"Information tokens: {_line(told, 'Info tokens')}",
            f"Fireworks: {', '.join(fireworks.split())}",
            f"Cards in the deck: {_line(told, 'Deck size')}",
            f"Discarded: {', '.join(_line(told, 'Discards').split()) or 'nothing'}",
            "Your partner's hand:",
            *(
                f"  card {at}: {card}; your partner can tell: {known}"
                for at, (card, known) in enumerate(_cards(partner))
            ),
            "Your own hand:",
            *(f"  card {at}: {known}" for at, (_, known) in enumerate(_cards(own))),
        ]
        return "\n".join(lines)

    def action(self, state: State, seat: int, action: int) -> str:
        """`<Play card i>`, `<Discard card i>`, `<Reveal player +1 color c>` or `<Reveal player +1 rank r>`."""
        said = bare(state, seat, action)
        return f"<{re.sub(r'^(Play|Discard) ', lambda found: f'{found[1]} card ', said)}>"

    def stake(self, state: State, seat: int) -> float:
        """All points so far."""
        return float(max(0.0, state.returns()[seat]))

    def key(self, state: State, seat: int) -> str:
        """What is seen; what was known and is no longer visible does not count."""
        return str(state.observation_string(seat))


def _line(told: str, name: str) -> str:
    found = re.search(rf"^{name}: ?(.*)$", told, re.MULTILINE)
    return "" if found is None else found[1].strip()


def _cards(hand: str) -> list[tuple[str, str]]:
    """Each card with what its holder can tell of it: of `R2 || XX|RY12` nothing was revealed, so it may be any."""
    found = re.findall(r"^(\w\w) \|\| (\w\w)\|(\w+)$", hand, re.MULTILINE)
    return [(card, _known(hinted, possible)) for card, hinted, possible in found]


def _known(hinted: str, possible: str) -> str:
    colours = " or ".join(letter for letter in possible if letter.isalpha())
    ranks = " or ".join(letter for letter in possible if letter.isdigit())
    colour_told, rank_told = (" (revealed)" if told != "X" else "" for told in hinted)
    return f"colour {colours}{colour_told}, rank {ranks}{rank_told}"


def _copies(rank: int, ranks: int) -> str:
    """How many cards of a rank each colour has."""
    return "three cards" if rank == 1 else "one" if rank == ranks else "two"
