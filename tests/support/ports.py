"""Free ports for the processes that tests start."""

from deploy.local.ports import choose


def free_port() -> int:
    """A free port of 127.0.0.1 below the ephemeral range, so that no outgoing connection takes it before its server."""
    return choose(())
