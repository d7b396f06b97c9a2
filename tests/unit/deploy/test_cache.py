"""The cache of downloaded and built engines."""

import threading
from pathlib import Path

import pytest

from deploy.local import stack
from deploy.local.cache import Cache, check_disk
from deploy.local.errors import StackError


def test_cache_builds_once_and_forgets_interrupted_builds(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    built: list[Path] = []

    def fail(draft: Path) -> None:
        (draft / "half").write_text("x")
        raise StackError("cut")

    def build(draft: Path) -> None:
        built.append(draft)
        (draft / "whole").write_text("x")

    with pytest.raises(StackError, match="cut"):
        cache.make("thing", 1, fail)
    (tmp_path / "thing.draft-killed").mkdir()
    threads = [threading.Thread(target=cache.make, args=("thing", 1, build)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["thing", "thing.lock"]
    assert [path.name for path in (tmp_path / "thing").iterdir()] == ["whole"]


def test_full_disk_and_small_memory_are_reported(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="make room"):
        check_disk(tmp_path, 10**18)
    with pytest.raises(
        StackError, match=r"\d GB of memory are available, the stack needs 1000000000.0 GB: close other programs"
    ):
        stack.check_memory(10**18)
