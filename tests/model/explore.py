"""Explores the models at length: `make model HISTORIES=100000`. Prints what it explored, and how soon each bug showed.

The tests of this folder explore the same histories, but fewer.
"""

import argparse
import asyncio
import itertools
import logging
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import pytest
import structlog

from tests.model import test_model, test_owner_races, test_pipeline

CHUNK = 50
"""Histories of one task."""
MOST_SEARCHED = 20_000
"""A bug that does not show within so many histories counts as not found."""

Explore = Callable[[range], Awaitable[str | None]]
"""What is wrong with the first broken history of these seeds; None if none is broken."""


@dataclass(frozen=True)
class Model:
    """A model to explore. Of OUT_OF histories, `share` are this model's: the pipeline's take 25 times as long."""

    name: str
    share: int
    explore: Explore


@dataclass(frozen=True)
class Bug:
    """A deliberate bug, and the model that must find it."""

    name: str
    explore: Explore
    plant: Callable[[pytest.MonkeyPatch], None]


MODELS = (
    Model("one image, each command once", 12, partial(test_model.first_broken, duplicates=False)),
    Model("one image, some commands twice", 12, partial(test_model.first_broken, duplicates=True)),
    Model("races of one owner", 12, test_owner_races.first_broken),
    Model("whole pipeline", 1, test_pipeline.first_broken),
)
OUT_OF = sum(model.share for model in MODELS)
WORLD_BUGS = ("sweep_guess", "outcome")


def bugs() -> list[Bug]:
    """Every deliberate bug of the tests."""
    once = partial(test_model.first_broken, duplicates=False)
    around = (Bug(name, partial(once, bugs=frozenset({name})), lambda _: None) for name in WORLD_BUGS)
    return [
        *(Bug(plant.__name__, once, plant) for plant in test_model.PATCHED),
        *around,
        *(Bug(plant.__name__, test_owner_races.first_broken, plant) for plant in test_owner_races.BUGS),
        *(Bug(plant.__name__, test_pipeline.first_broken, plant) for plant in test_pipeline.BUGS),
    ]


def main() -> None:
    """Explore, and exit with 1 if a history is broken or a bug is not found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--histories", type=int, default=100_000, help="of all models together")
    parser.add_argument("--first", type=int, default=0, help="first seed; other seeds are other histories")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    with ProcessPoolExecutor(arguments.processes, initializer=quiet) as pool:
        broken = explore_all(pool, arguments.histories, arguments.first)
        lost = find_bugs(pool)
    sys.exit(1 if broken or lost else 0)


def quiet() -> None:
    """No logs: each history has failures by design."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def explore_all(pool: ProcessPoolExecutor, histories: int, first: int) -> list[str]:
    """Explore each model's share of the histories, and print a table. What is wrong with the broken ones."""
    found = []
    print("| model | histories | a minute | broken |\n|---|---|---|---|", flush=True)
    for number, model in enumerate(MODELS):
        began, count = time.monotonic(), histories * model.share // OUT_OF
        broken = [wrong for wrong in pool.map(explore, itertools.repeat(number), chunks(first, count)) if wrong]
        minutes = (time.monotonic() - began) / 60
        print(f"| {model.name} | {count:,} | {count / minutes:,.0f} | {len(broken)} |", flush=True)
        found += broken
    print("", *found, sep="\n")
    return found


def chunks(first: int, count: int) -> Iterable[range]:
    """The seeds in pieces of CHUNK."""
    return (range(start, min(start + CHUNK, first + count)) for start in range(first, first + count, CHUNK))


def explore(number: int, seeds: range) -> str | None:
    """The first broken history of these seeds, in a process of the pool."""
    return asyncio.run(_result(MODELS[number].explore(seeds)))


def find_bugs(pool: ProcessPoolExecutor) -> Sequence[str]:
    """Search each deliberate bug, and print a table. Names of the bugs that were not found."""
    print("| deliberate bug | found in history |\n|---|---|", flush=True)
    lost = []
    for bug, took in zip(bugs(), pool.map(search, range(len(bugs()))), strict=True):
        print(f"| {bug.name} | {took or 'not found'} |", flush=True)
        if took is None:
            lost.append(bug.name)
    return lost


def search(number: int) -> int | None:
    """Number of histories until a bug shows; None if it does not, within MOST_SEARCHED."""
    bug = bugs()[number]
    with pytest.MonkeyPatch.context() as patch:
        bug.plant(patch)
        for seed in range(MOST_SEARCHED):
            if asyncio.run(_result(bug.explore(range(seed, seed + 1)))) is not None:
                return seed + 1
    return None


async def _result(exploring: Awaitable[str | None]) -> str | None:
    return await exploring


if __name__ == "__main__":
    main()
