"""Fuzz one harness: `python -m tests.fuzz HARNESS [libFuzzer's options and folders of inputs]`."""

import importlib
import os
import random
import sys

import atheris

INSTRUMENTED = ("gateway", "indexer", "multipart", "ops", "processor", "shared", "tests", "PIL")
"""Packages whose branches and comparisons guide the fuzzer. Instrumented code runs slower, so it is not everything."""


def main() -> None:
    """Run the harness of the first argument until it fails, or until libFuzzer's options end it."""
    name, *options = sys.argv[1:]
    # What else runs on the machine, such as the other tests, comes first.
    os.nice(19)
    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        harness = importlib.import_module(f"tests.fuzz.{name}")

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        chance = random.Random(seed)
        blind, own = chance.choice(((True, False), (False, True), (True, True)))
        if blind:
            data = atheris.Mutate(data, max_size)
        return harness.mutate(data, chance)[:max_size] if own else data

    atheris.Setup([sys.argv[0], *options], harness.check, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
