"""Changes to an input: the same number gives the same input, on every machine."""

import random
from collections.abc import Iterator, Sequence

LONGEST = 1 << 16
TOKENS = (
    b"\0", b"\n", b"\r\n", b"\x1b[31m", b"\xff\xfe", b"\xc3", b"\xe2\x80\xae", b"9" * 5000, b"-1", b"1e999",
    b"nan", b"[" * 2000, b"{" * 2000, b"(" * 500, b'"""', b"=", b".", b"/../", b"\\", b"null", b"true", b"0x",
    b" " * 300,
    b"\x85", b"18446744073709551616", b"18446744073709551615", b"999999999999", b"\xe2\x82\xac",
)  # fmt: skip


def inputs(seeds: Sequence[bytes], number: int, start: int = 0) -> Iterator[bytes]:
    """So many inputs made of the seeds: most by a few changes, some of nothing but chance."""
    for place in range(start, start + number):
        chance = random.Random(place)
        if place % 16 == 0:
            yield chance.randbytes(chance.randrange(200))
            continue
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.choice((1, 1, 2, 3, 8))):
            change(chance, data, seeds)
        yield bytes(data[:LONGEST])


def change(chance: random.Random, data: bytearray, seeds: Sequence[bytes]) -> None:
    """Change an input in one place."""
    at = chance.randrange(len(data) + 1)
    end = min(len(data), at + chance.choice((1, 1, 2, 4, 16, 64)))
    match chance.randrange(7):
        case 0:
            data[at:end] = chance.randbytes(end - at)
        case 1:
            del data[at:end]
        case 2:
            data[at:at] = chance.choice(TOKENS)
        case 3:
            data[at:end] = chance.choice(TOKENS)
        case 4:
            data[at:at] = data[at:end] * chance.choice((1, 2, 50))
        case 5:
            other = chance.choice(seeds)
            begin = chance.randrange(len(other) + 1)
            data[at:end] = other[begin : begin + 40]
        case 6:
            for place in range(at, end):
                data[place] ^= 1 << chance.randrange(8)
