"""What glibc's malloc does with memory that is given back to it."""

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Options of glibc's malloc, from its malloc.h."""


def keep_freed_memory(most: int = 2**31 - 1, block: int = 2**30) -> None:
    """Keep freed memory for what comes next, where there is glibc: to get it anew, page by page, takes time.

    By default blocks of 32 MB and more go back to the kernel at once.

    Args:
        most: bytes that are kept.
        block: bytes up to which a single block is kept.
    """
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(M_TRIM_THRESHOLD, most)
        libc.mallopt(M_MMAP_THRESHOLD, block)
