"""Fetches what tests on real engines would fetch themselves: the engines, and the base of the images.

`.ci/run` does this beside the lint, whose tools leave a core and the network unused.
"""

from tests.support.container_builds import BuildahBuilder, builder, make_base
from tests.support.engines.stack import fetch_engines


def main() -> None:
    fetch_engines()
    if isinstance(builder(), BuildahBuilder):
        make_base()


if __name__ == "__main__":
    main()
