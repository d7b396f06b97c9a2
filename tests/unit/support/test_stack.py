"""A test run removes the abandoned files of earlier runs, and no others."""

import os
import time
from pathlib import Path

from deploy.local.state import Root
from tests.support.engines import stack


def test_remove_abandoned_keeps_young_and_supervised_roots(tmp_path: Path) -> None:
    kinds = {name: Root(tmp_path / f"{stack.PREFIX}{name}") for name in ("abandoned", "running", "starting")}
    stranger = Root(tmp_path / "something-else")
    for root in (*kinds.values(), stranger):
        root.create()
    lock = kinds["running"].try_lock()
    long_ago = time.time() - 2 * stack.ABANDONED.total_seconds()
    for root in (kinds["abandoned"], kinds["running"], stranger):
        os.utime(root.path, (long_ago, long_ago))
    stack.remove_abandoned(tmp_path, tmp_path / "none")
    assert {path.name for path in tmp_path.iterdir()} == {
        "imagepipe-test-running",
        "imagepipe-test-starting",
        "something-else",
    }
    assert lock is not None
    lock.close()
