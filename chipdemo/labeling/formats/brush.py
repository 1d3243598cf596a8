"""The run lengths in which Label Studio writes a brush mask: those of rle-pack, of thi.ng/umbrella.

A stream of bits: the number of values (32 bits), the bits of a value less one (5) and four sizes less one
(4 each). Then chunks: 1 for a run or 0 for single values, which of the four sizes (2), the length less one
(in as many bits as that size says), and one value for a run or all values. The values are those of an RGBA
image, row by row, whose alpha is the mask.
"""

from collections.abc import Sequence

import numpy as np

VALUE_BITS, SIZES = 8, (3, 4, 8, 16)
CHANNELS = 4


def pack(pixels: np.ndarray) -> list[int]:
    """(h, w) bool -> bytes."""
    flat = pixels.ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=~flat[:1]))
    lengths = np.diff(starts, append=flat.size) * CHANNELS
    bits = [f"{flat.size * CHANNELS:032b}{VALUE_BITS - 1:05b}", *(f"{size - 1:04b}" for size in SIZES)]
    for value, length in zip(flat[starts], lengths.tolist()):
        while length:
            part = min(length, 2 ** SIZES[-1])
            index, size = next((i, size) for i, size in enumerate(SIZES) if part <= 2**size)
            bits.append(f"1{index:02b}{part - 1:0{size}b}{255 * value:08b}")
            length -= part
    return np.packbits(np.frombuffer("".join(bits).encode(), np.uint8) == ord("1")).tolist()


def unpack(packed: Sequence[int], shape: tuple[int, int]) -> np.ndarray:
    """bytes -> (h, w) bool: where alpha is not 0. Raises ValueError if they are not of that many pixels."""
    values = unpack_values(packed, shape[0] * shape[1] * CHANNELS)
    return np.frombuffer(values, np.uint8).reshape(*shape, CHANNELS)[..., -1] > 0


def unpack_values(packed: Sequence[int], count: int) -> bytes:
    """bytes -> values. Raises ValueError if they are damaged, or not so many."""
    stream, at = bytes(packed), 0

    def take(bits: int) -> int:
        nonlocal at
        start, at = at, at + bits
        if at > 8 * len(stream):
            raise ValueError("the run lengths of a brush end too early")
        chunk = int.from_bytes(stream[start // 8 : -(-at // 8)], "big")
        return chunk >> (-at % 8) & (1 << bits) - 1

    number, value_bits, sizes = take(32), take(5) + 1, [take(4) + 1 for _ in SIZES]
    if number != count or value_bits != VALUE_BITS:
        raise ValueError(f"a brush has {number:,} values of {value_bits} bits, not {count:,} of {VALUE_BITS}")
    values, done = bytearray(number), 0
    while done < number:
        is_run, length = take(1), take(sizes[take(2)]) + 1
        if done + length > number:
            raise ValueError(f"the run lengths of a brush add up to more than {number:,} values")
        if is_run:
            value = take(VALUE_BITS)
            if value:
                values[done : done + length] = bytes([value]) * length
        else:
            values[done : done + length] = take(VALUE_BITS * length).to_bytes(length, "big")
        done += length
    return bytes(values)
