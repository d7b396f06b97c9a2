"""Imports a service while the engines start, and runs it when the supervisor writes a line to its standard input.

`python -m deploy.local.supervision.preloaded gateway`. The imports are most of a service's start. A service that ran at
once would find no topics and end, or log a warning for each attempt to reach an engine.
"""

import runpy
import sys
from importlib import import_module


def main() -> None:
    """Import, wait, run. Ends if the supervisor has ended."""
    service = sys.argv[1]
    import_module(f"{service}.service")
    if not sys.stdin.readline():
        sys.exit("The supervisor has ended.")
    sys.argv = [service]
    # As `python -m SERVICE`: the render workers import the module that `__main__` names.
    runpy.run_module(service, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
