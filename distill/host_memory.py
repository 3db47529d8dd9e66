"""How the C library keeps memory: a training step on a CPU asks for the same again and again."""

import ctypes
import os

# malloc.h of glibc, and mman.h
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
_NEVER = -1
_HUGE_PAGE, _MADV_HUGEPAGE = 2 << 20, 14


def keep() -> None:
    """Have the C library keep what is freed for whoever asks next, on huge pages.

    By default every large tensor is given back to the kernel when it is freed, and its pages are
    made and zeroed again at the next step. Where there is no glibc nothing happens.
    """
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallopt") or not hasattr(libc, "gnu_get_libc_version"):
        return
    libc.mallopt(_MMAP_MAX, 0)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # the heap grows by this much, of addresses alone; what is never used costs nothing
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    if block := libc.malloc(size):
        first = -(-block // _HUGE_PAGE) * _HUGE_PAGE
        libc.madvise(first, block + size - first, _MADV_HUGEPAGE)
        libc.free(block)
