"""Which parts a stack has and where each listens: one of each kind, or a cluster that survives the loss of any part.

The n-th of a kind listens on 127.0.0.n, on the same ports as the first.
"""

from dataclasses import dataclass

CLUSTER = {"kafka": 3, "cassandra": 3, "gateway": 2, "processor": 2, "indexer": 2}
"""How many of each kind a cluster has. It has one of every other kind: the S3 server stands for a service that others
operate, and a second sweep would find nothing to do."""
MIN_IN_SYNC = 2
"""Replicas that must have a record before its ack, where there are three: any one broker may be unavailable."""


@dataclass(frozen=True)
class Member:
    """One part of a kind. `number` counts from 1 to `of`."""

    kind: str
    number: int
    of: int

    @property
    def name(self) -> str:
        """Name of the part: the kind's where it is the only one, for example `kafka` or `kafka-2`."""
        return self.kind if self.of == 1 else f"{self.kind}-{self.number}"

    @property
    def host(self) -> str:
        """The loopback address that it listens on."""
        return host(self.number)

    def titled(self, title: str) -> str:
        """The name that users see."""
        return title if self.of == 1 else f"{title} {self.number}"


def members(kind: str, cluster: bool) -> tuple[Member, ...]:
    """All parts of a kind."""
    count = CLUSTER.get(kind, 1) if cluster else 1
    return tuple(Member(kind, number, count) for number in range(1, count + 1))


def hosts(cluster: bool) -> tuple[str, ...]:
    """All addresses that a stack listens on."""
    return tuple(host(number + 1) for number in range(max(CLUSTER.values()) if cluster else 1))


def host(number: int) -> str:
    """The n-th loopback address, from 1."""
    return f"127.0.0.{number}"


def kind_of(name: str) -> str:
    """The kind of a part by its name."""
    return name.partition("-")[0]
