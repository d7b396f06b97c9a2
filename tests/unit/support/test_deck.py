"""The decks contain every kind of fault within five minutes of successive seeds, or in one long run."""

from collections.abc import Callable
from functools import partial
from itertools import combinations, islice

import pytest

from tests.faults.deck import (
    DISTURBING_HAND,
    ENGINES,
    HAND,
    JUMPS,
    KINDS,
    LINKS,
    Action,
    Card,
    deal,
    full_deck,
    local_disturbances,
    network_disturbances,
)

SINGLE = {(action, (kind,)) for action in (Action.KILL, Action.STOP, Action.RESTART) for kind in KINDS}
NETWORK = {(action, link) for action in (Action.DROP, Action.DELAY, Action.RESET) for link in LINKS}
DISTURBING = {Action.DROP, Action.DELAY, Action.RESET, Action.JUMP, Action.FAILING_PICTURES, Action.KILL_RENDER}

SHORT_DECK = partial(full_deck, outages=False)


def shown(cards: list[Card]) -> set[tuple[Action, tuple[str, ...]]]:
    return {(card.action, card.kinds) for card in cards}


def test_five_minutes_of_five_seeds_have_every_kind() -> None:
    cards = [card for seed in range(1, 6) for card in islice(deal(SHORT_DECK, seed), HAND)]
    assert shown(cards) >= SINGLE
    assert {card.action for card in cards} == set(Action) - DISTURBING - {Action.OUTAGE}


@pytest.mark.parametrize("deck", [network_disturbances, local_disturbances])
def test_five_minutes_of_five_seeds_have_every_disturbance(deck: Callable[[int], list[Card]]) -> None:
    cards = [card for seed in range(1, 6) for card in islice(deal(deck, seed), DISTURBING_HAND)]
    assert set(cards) == set(deck(1))


def test_disturbances_are_of_every_kind() -> None:
    cards = network_disturbances(1) + local_disturbances(1)
    assert shown(cards) >= NETWORK
    assert {card.amount for card in cards if card.action is Action.JUMP} == set(JUMPS)
    assert {card.action for card in cards} == DISTURBING


def test_deck_of_any_seed_has_every_kind() -> None:
    for seed in range(20):
        cards = full_deck(seed, outages=True)
        assert shown(cards) >= SINGLE
        assert {card.action for card in cards} == set(Action) - DISTURBING
        assert {card.kinds[0] for card in cards if card.action is Action.OUTAGE} == set(ENGINES)


def test_few_seeds_contain_every_pair() -> None:
    pairs = (Action.KILL_PAIR, Action.STOP_AND_KILL)
    drawn = {card.kinds for seed in range(1, 6) for card in full_deck(seed, outages=False) if card.action in pairs}
    assert drawn == set(combinations(KINDS, 2))


@pytest.mark.parametrize("deck", [SHORT_DECK, network_disturbances, local_disturbances])
def test_seed_determines_the_deck(deck: Callable[[int], list[Card]]) -> None:
    assert list(islice(deal(deck, 3), 80)) == list(islice(deal(deck, 3), 80))
