"""The log files that `imagepipe logs` shows."""

from pathlib import Path

import pytest

from deploy.local.errors import StackError
from deploy.local.state import Root
from deploy.local.supervision.logs import LogFile
from ops.commands.logs import log_files


def test_logs_of_a_kind_are_those_of_all_its_parts(tmp_path: Path) -> None:
    root = Root(tmp_path)
    root.create()
    for name in ("kafka-1", "kafka-2", "gateway-1", "supervisor"):
        log = LogFile(root.logs / f"{name}.log")
        log.write("line")
        log.close()
    assert list(log_files(root, "kafka")) == ["kafka-1", "kafka-2"]
    assert list(log_files(root, "kafka-2")) == ["kafka-2"]
    with pytest.raises(StackError, match=r"there are .*kafka-1"):
        log_files(root, "kafka-3")
