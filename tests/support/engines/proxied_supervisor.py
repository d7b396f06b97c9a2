"""The supervisor of a proxied stack, started as `python -m` this module in place of `ops.stack.supervise`."""

from ops.stack.supervise import main
from tests.support.engines.proxied import adapt

if __name__ == "__main__":
    main(adapt)
