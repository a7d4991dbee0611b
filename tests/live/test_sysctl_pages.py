"""What the pages say of defaults and limits, against the kernel in a fresh network namespace."""

import errno
import os

import pytest

from tcpdoctor.answers.sysctl import look_at_sysctl
from tcpdoctor.facts.sysctl_value import value_as_printed
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.knowledge.sysctl_pages import find_sysctl, sysctl_names

PAGES = [find_sysctl(name) for name in sysctl_names()]
OF_A_NAMESPACE = [page for page in PAGES if page.scope == "namespace" and page.removed is None]
BOUND_BY_ANOTHER = {"net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"}
"""Their limits depend on each other's value, and have a test of their own."""


def path_of(name: str) -> str:
    return "/proc/sys/" + name.replace(".", "/")


def is_taken(name: str, value: object) -> bool:
    """Write a value; whether the kernel takes it. What it held before is put back."""
    with open(path_of(name), encoding="ascii") as file:
        before = file.read()
    try:
        write(name, value)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ERANGE):
            raise
        return False
    write(name, before)
    return True


def write(name: str, value: object) -> None:
    descriptor = os.open(path_of(name), os.O_WRONLY)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)


def wrong_limits() -> tuple[int, list[str]]:
    """Try both ends of every stated range, and the numbers just outside."""
    tried, wrong = 0, []
    for page in OF_A_NAMESPACE:
        answer = look_at_sysctl(page.name)
        low, high = answer.accepts or (None, None)
        if low is None or high is None or not answer.writable or page.name in BOUND_BY_ANOTHER:
            continue
        if isinstance(answer.value, tuple):
            continue
        tried += 1
        expected = {low: True, high: True, low - 1: False, high + 1: False}
        wrong += [
            f"{page.name} = {value}: taken {not taken}"
            for value, taken in expected.items()
            if is_taken(page.name, value) is not taken
        ]
    return tried, wrong


KNOWN_OVERFLOW = ("net.ipv4.tcp_invalid_ratelimit", "net.ipv4.icmp_ratelimit")
"""Milliseconds that the kernel multiplies without looking: beyond INT_MAX it takes some, refuses others."""


def test_the_kernel_takes_what_is_inside_every_stated_range_and_nothing_outside(in_namespace):
    tried, wrong = in_namespace(wrong_limits)
    assert tried > 70
    assert [complaint for complaint in wrong if not complaint.startswith(KNOWN_OVERFLOW)] == []


def wrong_defaults() -> tuple[int, list[str]]:
    compared, wrong = 0, []
    for page in OF_A_NAMESPACE:
        answer = look_at_sysctl(page.name)
        stated = page.default_among if page.default is None else (page.default,)
        if not stated or isinstance(answer.value, Missing):
            continue
        compared += 1
        printed = value_as_printed(answer.value)
        if printed not in stated:
            wrong.append(f"{page.name} is {printed} in a fresh namespace, not {' or '.join(stated)}")
    return compared, wrong


def test_a_fresh_namespace_has_every_stated_default(in_namespace):
    compared, wrong = in_namespace(wrong_defaults)
    assert compared > (
        80 if os.path.exists(path_of("net.ipv4.tcp_ecn_option")) else 70
    )  # older ones have fewer
    assert wrong == []


def test_ports_and_the_first_unprivileged_one_bind_each_other(in_namespace):
    def limits() -> dict[str, bool]:
        return {
            "range below the first unprivileged port": is_taken("net.ipv4.ip_local_port_range", "1023 60000"),
            "range from it on": is_taken("net.ipv4.ip_local_port_range", "1024 65535"),
            "range above 65535": is_taken("net.ipv4.ip_local_port_range", "1024 65536"),
            "range that ends before it begins": is_taken("net.ipv4.ip_local_port_range", "5000 4000"),
            "first unprivileged at the range": is_taken("net.ipv4.ip_unprivileged_port_start", 32768),
            "first unprivileged inside it": is_taken("net.ipv4.ip_unprivileged_port_start", 32769),
            "none privileged": is_taken("net.ipv4.ip_unprivileged_port_start", 0),
        }

    assert in_namespace(limits) == {
        "range below the first unprivileged port": False,
        "range from it on": True,
        "range above 65535": False,
        "range that ends before it begins": False,
        "first unprivileged at the range": True,
        "first unprivileged inside it": False,
        "none privileged": True,
    }


def test_buffers_may_not_be_nothing(in_namespace):
    def taken() -> list[bool]:
        names = ("net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem")
        return [is_taken(name, value) for name in names for value in ("0 8192 8192", "8192 8192 8192")]

    assert in_namespace(taken) == [False, True, False, True]


def scopes() -> dict[str, tuple[bool, bool]]:
    """For each page, whether its file is here and whether it may be written."""
    return {
        page.name: (
            os.path.exists(path_of(page.name)),
            os.path.exists(path_of(page.name)) and bool(os.stat(path_of(page.name)).st_mode & 0o222),
        )
        for page in PAGES
        if page.name.startswith("net.")
    }


def test_each_scope_is_what_a_fresh_namespace_shows(in_namespace, hosts_network):
    here, inside = scopes(), in_namespace(scopes)
    for page in PAGES:
        if not page.name.startswith("net.") or not here[page.name][0]:
            continue
        present, writable = inside[page.name]
        expected = {
            "namespace": (True, here[page.name][1]),
            "initial": (False, False),
            "shared": (True, False),
        }
        assert (present, writable) == expected[page.scope], page.name


@pytest.mark.parametrize("name", ["net.ipv4.tcp_low_latency", "net.ipv4.tcp_fack"])
def test_what_is_without_effect_can_still_be_written(name, hosts_network):
    page = find_sysctl(name)
    assert page.governs == "Nothing."
    assert os.path.exists(path_of(name))
