"""The per-user cache of what is downloaded once: whole or not there, and made by one process at a time.

Standard library only, like the downloads that fill it.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from deploy.local.errors import StackError


class Cache:
    """A directory of finished things."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, name: str, needs_bytes: int, build: Callable[[Path], None]) -> Path:
        """The directory `name`, built by `build(draft)` if it is not there yet.

        The draft is renamed when `build` returns, so an interrupted build leaves nothing that looks finished; another
        process that wants the same waits for it. Raises StackError when the disk lacks `needs_bytes`.
        """
        target = self.path / name
        if target.exists():
            return target
        self.path.mkdir(parents=True, exist_ok=True)
        with _locked(self.path / f"{name}.lock"):
            if target.exists():
                return target
            self._sweep(name)
            check_disk(self.path, needs_bytes)
            draft = Path(tempfile.mkdtemp(prefix=f"{name}.draft-", dir=self.path))
            try:
                build(draft)
                draft.rename(target)
            finally:
                remove_tree(draft)
        return target

    def _sweep(self, name: str) -> None:
        # No other process works on this name while this one holds the lock: a killed process left the draft.
        for draft in self.path.glob(f"{name}.draft-*"):
            remove_tree(draft)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def remove_tree(path: Path) -> None:
    """Remove a directory, read-only parts included. No error if it is not there."""
    if not path.exists():
        return
    for directory, _, _ in os.walk(path):
        Path(directory).chmod(0o700)
    shutil.rmtree(path)


def check_disk(path: Path, needs_bytes: int) -> None:
    """Raise StackError when the file system of `path` has less than `needs_bytes` free."""
    free = shutil.disk_usage(path).free
    if free < needs_bytes:
        raise StackError(
            f"{path} has {free / 1e6:,.0f} MB free, {needs_bytes / 1e6:,.0f} MB are needed: make room, or choose "
            f"another place with --root (data) or IMAGEPIPE_CACHE (downloads)."
        )


def user_cache() -> Cache:
    """`IMAGEPIPE_CACHE`, else `~/.cache/imagepipe`."""
    chosen = os.environ.get("IMAGEPIPE_CACHE")
    return Cache(Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "imagepipe")
