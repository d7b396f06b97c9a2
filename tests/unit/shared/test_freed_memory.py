"""Freed upload buffers are returned to the operating system."""

import platform
import subprocess
import sys

import pytest

FILES_COME_AND_GO = """
import sys, psutil
from shared.freed_memory import return_large_blocks
if sys.argv[1] == "ours":
    assert return_large_blocks()
own, files, between = psutil.Process(), [], []
before = own.memory_info().rss
first = bytearray(5 << 20)
del first
for _ in range(40):
    file = bytearray(5 << 20)
    file[:] = bytes(len(file))
    files.append(file)
    # A heap cannot shrink below what is in use.
    between.append(bytearray(100_000))
files.clear()
del file
print(own.memory_info().rss - before)
"""


def megabytes_kept(how: str) -> float:
    run = subprocess.run([sys.executable, "-c", FILES_COME_AND_GO, how], capture_output=True, text=True, check=True)
    return int(run.stdout) / 1e6


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such threshold")
def test_memory_of_freed_files_returns_to_the_system() -> None:
    assert megabytes_kept("ours") < 20
    # The reason for the module: if glibc returned the blocks itself, the module could be removed.
    assert megabytes_kept("glibc's own") > 100
