"""Makes the C library (glibc) return freed memory to the operating system."""

import ctypes

M_MMAP_THRESHOLD = -3
"""Constant of glibc's malloc.h; see mallopt(3)."""
LARGE_BYTES = 128 * 1024
"""The initial threshold of glibc."""


def return_large_blocks() -> bool:
    """Make this process return blocks of 128 KiB or more to the operating system as soon as they are freed.

    By default glibc raises this threshold to the size of freed blocks, up to 32 MiB. After the first uploads it then
    allocates whole files on the heap, and freed memory below a used block cannot be returned. Returns False if the C
    library is not glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    return bool(mallopt(M_MMAP_THRESHOLD, LARGE_BYTES))
