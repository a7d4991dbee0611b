"""Settings that do harm, each in a namespace where it harms nobody."""

from collections.abc import Callable, Iterator, Mapping

from tcpdoctor.lab.namespace import write_sysctl
from tcpdoctor.lab.scenario import Broken, Cured, Scenario, Scene


def _setting(
    rule: str,
    harmful: Mapping[str, object],
    healthy: Mapping[str, object],
    why: str,
    cure: str,
    least: str = "warning",
) -> Callable[[], Iterator[Scene]]:
    """A story of settings that are harmful as they are, and no longer once they are set back."""

    def play() -> Iterator[Scene]:
        for name, value in harmful.items():
            write_sysctl(name, value)
        show = tuple(f"explain --sysctl {name.rpartition('.')[2]}" for name in healthy)
        yield Broken(why, fires={rule: least}, show=show, window=0)
        for name, value in healthy.items():
            write_sysctl(name, value)
        yield Cured(cure, window=0)

    return play


_FIN_TIMEOUT = "net.ipv4.tcp_fin_timeout"

SCENARIOS = (
    Scenario(
        "fin-timeout-short",
        "tcp_fin_timeout is so short that slow peers lose data",
        _setting(
            "fin-timeout-short",
            {_FIN_TIMEOUT: 5},
            {_FIN_TIMEOUT: 60},
            """
            tcp_fin_timeout is 5 s here; many articles recommend that "against TIME_WAIT". It has
            nothing to do with TIME_WAIT, which is 60 s whatever is set. It is the time that a
            socket which is closed here gives its peer to finish as well, in FIN_WAIT_2. A peer that
            needs longer gets a reset instead of an end.
            """,
            "tcp_fin_timeout is 60 s again, which is the kernel's default.",
        ),
    ),
    Scenario(
        "fin-timeout-between-61-and-89",
        "tcp_fin_timeout was raised and became shorter",
        _setting(
            "fin-timeout-between-61-and-89",
            {_FIN_TIMEOUT: 65},
            {_FIN_TIMEOUT: 60},
            """
            tcp_fin_timeout is 65 s, five more than the default, and orphans in FIN_WAIT_2 now live
            10 s. Above 60 s the kernel keeps the whole socket for (value - 60) s first, and then a
            small one for that same time once more: 2 x (65 - 60) = 10. Only from 90 on is it as
            long as the default.
            """,
            "tcp_fin_timeout is 60 s again: orphans live for 60 s.",
        ),
    ),
    Scenario(
        "tw-reuse-without-timestamps",
        "TIME_WAIT is to be reused, and timestamps are off",
        _setting(
            "tw-reuse-without-timestamps",
            {"net.ipv4.tcp_tw_reuse": 1, "net.ipv4.tcp_timestamps": 0},
            {"net.ipv4.tcp_timestamps": 1},
            """
            tcp_tw_reuse is 1: connect() may take a port over whose last connection is in TIME_WAIT.
            That is safe only because timestamps tell old segments from new ones, so without them
            the kernel does not do it. tcp_timestamps is 0 here: the setting has no effect at all.
            """,
            "With tcp_timestamps = 1, the default, tcp_tw_reuse does what was wanted.",
        ),
    ),
    Scenario(
        "syncookies-off",
        "SYN cookies are off: a flood of SYNs locks clients out",
        _setting(
            "syncookies-off",
            {"net.ipv4.tcp_syncookies": 0},
            {"net.ipv4.tcp_syncookies": 1},
            """
            tcp_syncookies is 0. While a listener's queue of half-open connections is full, every
            further SYN is dropped, so a few thousand forged SYNs a second are enough to lock all
            clients out. With 1 nothing changes until that happens; then the kernel answers without
            keeping anything, and clients still get in.
            """,
            "tcp_syncookies is 1, the default: cookies are sent only while the queue is full.",
        ),
    ),
)
