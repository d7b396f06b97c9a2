"""The order of faults: decks that hold every kind of fault once, dealt from another position for each seed.

One deck has the faults of processes. The other two have disturbances, which end by themselves: those of the network,
and those of one process. All three are played at the same time. Independent draws would repeat some kinds and leave
others out, and a minute has time for a quarter of a deck. So successive seeds continue about where the previous one
ended, and a run that is long enough plays all decks.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from deploy.local.services import NEEDS

KINDS = ("gateway", "processor", "indexer", "kafka", "cassandra", "s3")
WORKERS = ("processor", "indexer")
ENGINES = ("kafka", "cassandra", "s3")
LINKS = tuple((service, engine) for service, engines in NEEDS.items() for engine in engines)
"""A service and an engine that it uses."""
HAND = 6
"""Cards of processes that a minute takes, more or less."""
DISTURBING_HAND = 12
"""Disturbances of either deck that a minute takes, more or less."""
STOP_SECONDS = 13.0
"""Above the consumers' session time-out of 10 s, so that a worker continues as a zombie; below the retry deadline of an
outage, so that the services wait for the engine."""
OUTAGE_SECONDS = 35.0
"""Well above the retry deadline: the services end, and are restarted while the engine is still unavailable."""
DROP_SECONDS = (1.0, 3.0, STOP_SECONDS)
"""Within every time-out, within most of them, and longer than a session: the worker is a zombie that still reaches its
other engine."""
DELAYS = (0.1, 1.0)
"""Seconds by which each packet is late."""
RESET_SECONDS = (0.0, 1.5)
"""All connections are reset once, or new ones as well for some time."""
JUMPS = ("+5m", "-5m", "+2h", "-2h", "+30d", "-30d", "+3y", "-3y")
"""S3 refuses signatures whose time is more than 15 minutes off. The others are longer than a lease, a TTL, a month."""
JUMP_SECONDS = 1.0
PICTURES_SECONDS = 4.0


class Action(StrEnum):
    """What is done to a part, or between two of them."""

    KILL = "kill -9"
    STOP = "stop"
    RESTART = "restart"
    KILL_PAIR = "kill -9 both"
    STOP_AND_KILL = "stop the first, kill -9 the second"
    KILL_RENDER = "kill -9 a render process"
    STOP_RENDER = "stop a render process"
    ADD_AND_REMOVE = "add and remove a worker"
    OUTAGE = "stop for longer than the retry limit"
    DROP = "drop packets"
    DELAY = "delay packets"
    RESET = "reset connections"
    JUMP = "jump the clock"
    FAILING_PICTURES = "send replacements that cannot be rendered"


@dataclass(frozen=True)
class Card:
    """One fault: an action on parts of these kinds, and about how many seconds the stack needs to recover.

    `lasts`: seconds between the begin of the fault and its end. `amount`: the delay in seconds, or the jump.
    """

    action: Action
    kinds: tuple[str, ...]
    seconds: float
    lasts: float = 0.0
    amount: str = ""

    def __str__(self) -> str:
        return f"{self.action} {' and '.join(self.kinds)}"


def full_deck(seed: int, *, outages: bool) -> list[Card]:
    """Every fault of processes once, in the order in which this seed deals them.

    All pairs of kinds would be a deck of their own: each seed takes the next few. `outages` adds the long ones.
    """
    cards = list(_process_faults())
    random.Random("deck").shuffle(cards)
    if outages:
        cards += [Card(Action.OUTAGE, (kind,), OUTAGE_SECONDS + 15, OUTAGE_SECONDS) for kind in ENGINES]
    pairs = list(itertools.combinations(KINDS, 2))
    random.Random("pairs").shuffle(pairs)
    blank = sum(not card.kinds for card in cards)
    drawn = itertools.islice(itertools.cycle(pairs), (seed * blank) % len(pairs), None)
    cards = [card if card.kinds else replace(card, kinds=next(drawn)) for card in cards]
    return _from_position(cards, seed * HAND)


def network_disturbances(seed: int) -> list[Card]:
    """Every disturbance of the network once, in the order in which this seed deals them."""
    cards = list(_network_faults())
    random.Random("network").shuffle(cards)
    return _from_position(cards, seed * DISTURBING_HAND)


def local_disturbances(seed: int) -> list[Card]:
    """Every disturbance of one process once, in the order in which this seed deals them."""
    cards = [Card(Action.JUMP, ("gateway",), JUMP_SECONDS, JUMP_SECONDS, jump) for jump in JUMPS]
    cards += [Card(Action.FAILING_PICTURES, ("gateway",), PICTURES_SECONDS, PICTURES_SECONDS) for _ in range(3)]
    cards += [Card(Action.KILL_RENDER, ("processor",), 0) for _ in range(3)]
    random.Random("local").shuffle(cards)
    return _from_position(cards, seed * DISTURBING_HAND)


def _from_position(cards: list[Card], position: int) -> list[Card]:
    start = position % len(cards)
    return cards[start:] + cards[:start]


def _process_faults() -> Iterator[Card]:
    """Pairs have no kinds yet."""
    for kind in KINDS:
        yield Card(Action.KILL, (kind,), 9)
        yield Card(Action.STOP, (kind,), STOP_SECONDS + (6 if kind in WORKERS else 2), STOP_SECONDS)
        yield Card(Action.RESTART, (kind,), 7)
    for kind in WORKERS:
        yield Card(Action.ADD_AND_REMOVE, (kind,), 9)
    yield Card(Action.STOP_RENDER, ("processor",), STOP_SECONDS, STOP_SECONDS)
    for _ in range(3):
        yield Card(Action.KILL_PAIR, (), 12)
    yield Card(Action.STOP_AND_KILL, (), STOP_SECONDS + 6, STOP_SECONDS)


def _network_faults() -> Iterator[Card]:
    for link in LINKS:
        for seconds in DROP_SECONDS:
            yield Card(Action.DROP, link, seconds, seconds)
        for delay in DELAYS:
            yield Card(Action.DELAY, link, 3, 3, str(delay))
        for seconds in RESET_SECONDS:
            yield Card(Action.RESET, link, seconds, seconds)


def deal(deck: Callable[[int], list[Card]], seed: int) -> Iterator[Card]:
    """Cards without end: the seed's deck, then the next seed's."""
    for number in itertools.count(seed):
        yield from deck(number)
