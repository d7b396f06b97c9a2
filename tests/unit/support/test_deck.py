"""The deck contains every kind of fault within ten minutes of successive seeds, or in one long run."""

from itertools import combinations, islice

from tests.faults.deck import ENGINES, HAND, JUMPS, KINDS, LINKS, Action, Card, deal, full_deck

SINGLE = {(action, (kind,)) for action in (Action.KILL, Action.STOP, Action.RESTART) for kind in KINDS}
NETWORK = {(action, link) for action in (Action.DROP, Action.DELAY, Action.RESET) for link in LINKS}


def shown(cards: list[Card]) -> set[tuple[Action, tuple[str, ...]]]:
    return {(card.action, card.kinds) for card in cards}


def test_ten_minutes_of_ten_seeds_have_every_kind() -> None:
    cards = [card for seed in range(1, 11) for card in islice(deal(seed), HAND)]
    assert shown(cards) >= SINGLE | NETWORK
    assert {card.amount for card in cards if card.action is Action.JUMP} == set(JUMPS)
    assert {card.action for card in cards} == set(Action) - {Action.OUTAGE}


def test_deck_of_any_seed_has_every_kind() -> None:
    for seed in range(20):
        cards = full_deck(seed, outages=True)
        assert shown(cards) >= SINGLE | NETWORK
        assert {card.action for card in cards} == set(Action)
        assert {card.kinds[0] for card in cards if card.action is Action.OUTAGE} == set(ENGINES)


def test_few_seeds_contain_every_pair() -> None:
    pairs = (Action.KILL_PAIR, Action.STOP_AND_KILL)
    drawn = {card.kinds for seed in range(1, 6) for card in full_deck(seed, outages=False) if card.action in pairs}
    assert drawn == set(combinations(KINDS, 2))


def test_seed_determines_the_deck() -> None:
    assert list(islice(deal(3), 80)) == list(islice(deal(3), 80))
