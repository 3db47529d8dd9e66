"""Order out of a seed: a shuffle of any length in constant memory, and the bits it is made of."""

import math

_MASK = (1 << 64) - 1


def permuted(index: int, length: int, seed: int) -> int:
    """Where `index` goes in a shuffle of `range(length)`, in constant time and memory.

    A Feistel network over the smallest rectangle of numbers that holds `length`, walked until it
    lands inside (Black & Rogaway 2002, "Ciphers with arbitrary finite domains").

    Raises:
        ValueError: `index` is not in `range(length)`.
    """
    if not 0 <= index < length:
        raise ValueError(f"permuted: index {index} does not lie in 0 ... {length - 1}")
    columns = math.isqrt(length - 1) + 1
    rows = -(-length // columns)
    while True:
        high, low = divmod(index, columns)
        for step in range(0, 8, 2):
            high = (high + hashed(seed, step, low)) % rows
            low = (low + hashed(seed, step + 1, high)) % columns
        index = high * columns + low
        if index < length:
            return index


def hashed(*numbers: int) -> int:
    """64 well-mixed bits of some whole numbers. Steele et al. 2014 (SplitMix64), its finaliser."""
    state = 0
    for number in numbers:
        state = ((state ^ number) + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state
