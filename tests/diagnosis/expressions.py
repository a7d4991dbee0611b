"""Random well-typed expressions of the language, for tests with hypothesis."""

import functools

from hypothesis import strategies as st

BARE = st.one_of(st.integers(0, 1000), st.sampled_from([0.5, 2.25, 1e3])).map(str)
COUNT, SECOND, BYTE, PAGE, RATIO, RATE = "count", "second", "byte", "page", "ratio", "rate"

LEAVES = {
    COUNT: st.sampled_from(
        ["sockets.open", "sockets.free", "leak.owned", "limit.min_sockets", "delta(Tcp.Out)"]
    ),
    SECOND: st.one_of(
        st.sampled_from(["queue.age", "queue.wait", "limit.min_age", "sysctl.net.ipv4.timeout"]),
        st.builds("{} * {}".format, BARE, st.sampled_from(["second", "minute", "hour", "day"])),
    ),
    BYTE: st.one_of(
        st.sampled_from(["queue.bytes", "limit.size"]),
        st.builds("{} * {}".format, BARE, st.sampled_from(["KiB", "MiB", "GiB"])),
    ),
    PAGE: st.sampled_from(["memory.pages", "sysctl.net.ipv4.mem.max"]),
    RATIO: st.one_of(
        st.sampled_from(["sysctl.net.ipv4.switch", "limit.share"]), BARE.map("{} * percent".format)
    ),
    RATE: st.one_of(
        st.sampled_from(["rate(Tcp.Out)", "rate(Tcp.Again)"]), BARE.map("{} * per_second".format)
    ),
}


@functools.cache
def quantities(dimension: str, depth: int) -> st.SearchStrategy[str]:
    """Texts of quantities of one dimension, up to `depth` operations above each other."""
    if depth == 0:
        return LEAVES[dimension].map("({})".format)
    same = quantities(dimension, depth - 1)
    ratio = quantities(RATIO, depth - 1)
    ways = [
        LEAVES[dimension].map("({})".format),
        st.builds("({} {} {})".format, same, st.sampled_from("+-"), same),
        st.builds("({} {} {})".format, same, st.sampled_from("*/"), ratio),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), same, same),
        same.map("(-{})".format),
    ]
    if dimension == COUNT:
        seconds = quantities(SECOND, depth - 1)
        ways += [
            st.builds("older(leak.ages, {})".format, seconds),
            st.builds("({} * {})".format, quantities(RATE, depth - 1), seconds),
            st.builds("({} + {})".format, same, BARE),
        ]
    if dimension == RATIO:
        other = st.sampled_from([COUNT, SECOND, BYTE, PAGE, RATE])
        ways.append(
            other.flatmap(
                lambda base: st.builds(
                    "({} / {})".format, quantities(base, depth - 1), quantities(base, depth - 1)
                )
            )
        )
    if dimension == RATE:
        ways.append(
            st.builds("({} / {})".format, quantities(COUNT, depth - 1), quantities(SECOND, depth - 1))
        )
    return st.one_of(ways)


@functools.cache
def comparisons(depth: int) -> st.SearchStrategy[str]:
    """Texts of one comparison."""
    sign = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
    return st.sampled_from([COUNT, SECOND, BYTE, PAGE, RATIO, RATE]).flatmap(
        lambda base: st.builds("{} {} {}".format, quantities(base, depth), sign, quantities(base, depth))
    )


CONDITIONS = st.recursive(
    comparisons(2),
    lambda inner: st.one_of(
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' and '.join(parts)})"),
        st.lists(inner, min_size=2, max_size=3).map(lambda parts: f"({' or '.join(parts)})"),
        inner.map("(not {})".format),
    ),
    max_leaves=5,
)
"""Texts of whole conditions."""
