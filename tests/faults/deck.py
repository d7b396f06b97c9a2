"""The order of faults: a deck that holds every kind of fault once, dealt from another position for each seed.

Independent draws would repeat some kinds and leave others out, and a minute has time for a quarter of the deck. So
successive seeds continue about where the previous one ended, and a run that is long enough plays the whole deck.
"""

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

KINDS = ("gateway", "processor", "indexer", "kafka", "cassandra", "s3")
WORKERS = ("processor", "indexer")
ENGINES = ("kafka", "cassandra", "s3")
HAND = 6
"""Cards that a minute takes, more or less."""
STOP_SECONDS = 13.0
"""Above the consumers' session time-out of 10 s, so that a worker continues as a zombie; below the retry deadline of an
outage, so that the services wait for the engine."""
OUTAGE_SECONDS = 35.0
"""Well above the retry deadline: the services end, and are restarted while the engine is still unavailable."""


class Action(StrEnum):
    """What is done to a part."""

    KILL = "kill -9"
    STOP = "stop"
    RESTART = "restart"
    KILL_PAIR = "kill -9 both"
    STOP_AND_KILL = "stop the first, kill -9 the second"
    KILL_RENDER = "kill -9 a render process"
    STOP_RENDER = "stop a render process"
    ADD_AND_REMOVE = "add and remove a worker"
    OUTAGE = "stop for longer than the retry limit"


@dataclass(frozen=True)
class Card:
    """One fault: an action on parts of these kinds, and about how many seconds the stack needs to recover."""

    action: Action
    kinds: tuple[str, ...]
    seconds: float

    def __str__(self) -> str:
        return f"{self.action} {' and '.join(self.kinds)}"


def full_deck(seed: int, *, outages: bool) -> list[Card]:
    """Every fault once, in the order in which this seed deals them.

    All pairs of kinds would be a deck of their own: each seed takes the next few. `outages` adds the long ones.
    """
    cards = [
        *(Card(Action.KILL, (kind,), 9) for kind in KINDS),
        *(Card(Action.STOP, (kind,), STOP_SECONDS + (6 if kind in WORKERS else 2)) for kind in KINDS),
        *(Card(Action.RESTART, (kind,), 7) for kind in KINDS),
        *(Card(Action.ADD_AND_REMOVE, (kind,), 9) for kind in WORKERS),
        Card(Action.KILL_RENDER, ("processor",), 2),
        Card(Action.STOP_RENDER, ("processor",), STOP_SECONDS),
        *(Card(Action.KILL_PAIR, (), 12) for _ in range(3)),
        Card(Action.STOP_AND_KILL, (), STOP_SECONDS + 6),
    ]
    random.Random("deck").shuffle(cards)
    if outages:
        cards += [Card(Action.OUTAGE, (kind,), OUTAGE_SECONDS + 15) for kind in ENGINES]
    pairs = list(itertools.combinations(KINDS, 2))
    random.Random("pairs").shuffle(pairs)
    blank = sum(not card.kinds for card in cards)
    drawn = itertools.islice(itertools.cycle(pairs), (seed * blank) % len(pairs), None)
    cards = [card if card.kinds else Card(card.action, next(drawn), card.seconds) for card in cards]
    start = seed * HAND % len(cards)
    return cards[start:] + cards[:start]


def deal(seed: int, *, outages: bool = False) -> Iterator[Card]:
    """Cards without end: the seed's deck, then the next seed's."""
    for number in itertools.count(seed):
        yield from full_deck(number, outages=outages)
