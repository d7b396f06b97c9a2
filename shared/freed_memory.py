"""How the C library keeps the memory of files that have been handled."""

import ctypes

M_MMAP_THRESHOLD = -3
"""Of glibc's malloc.h; see mallopt(3)."""
LARGE_BYTES = 128 * 1024
"""glibc's threshold at first."""


def return_large_blocks() -> bool:
    """Have blocks of 128 KiB or more given back to the system as soon as they are freed, in this process.

    By itself glibc raises its threshold to the size of what is freed, up to 32 MiB: after the first uploads it takes
    whole files from heaps, which keep what lies below a block in use. False where the C library is another.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE_BYTES))
