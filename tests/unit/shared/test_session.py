"""A connection to Cassandra that cannot be made."""

import pytest

from shared.cassandra.session import connect
from shared.errors import Unavailable
from shared.settings import Settings


def test_connect_reports_a_host_without_an_address_as_an_outage() -> None:
    nowhere = Settings(_env_file=None, cassandra_contact_points=("no-such-host.invalid",))
    with pytest.raises(Unavailable, match=r"host names cannot be resolved: no-such-host\.invalid\. Check CASSANDRA"):
        connect(nowhere)
