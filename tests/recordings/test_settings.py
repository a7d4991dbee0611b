"""Settings as sysctl prints them."""

import subprocess
from pathlib import Path

import pytest

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sysctl import read_sysctls
from tcpdoctor.recordings.forms import read_settings_text
from tests.recordings.reports import forms_in

SAMPLE = (Path(__file__).parent / "samples" / "sysctl-a.txt").read_text()


def test_settings_are_typed_by_their_names():
    found = read_settings_text(SAMPLE).sysctls
    assert found["fs.file-nr"] == (74852, 0, 2466165)
    assert found["net.ipv4.ip_local_port_range"] == (32768, 60999)
    assert found["net.ipv4.ip_local_reserved_ports"] == ()
    assert found["net.ipv4.tcp_fin_timeout"] == 60
    assert isinstance(found["net.ipv4.tcp_congestion_control"], str)
    assert len(found["net.ipv4.tcp_rmem"]) == 3


def test_what_sysctl_was_refused_is_missing():
    text = (
        "sysctl: permission denied on key 'net.core.bpf_jit_harden'\n"
        'sysctl: reading key "net.ipv6.conf.all.stable_secret"\n'
        "net.core.somaxconn = 4093\n"
    )
    assert forms_in(text) == ["sysctl"]
    found = read_settings_text(text).sysctls
    assert found["net.core.somaxconn"] == 4093
    assert isinstance(found["net.core.bpf_jit_harden"], Missing)
    assert len(found) == 2


def test_what_does_not_fit_its_name_is_missing_and_the_rest_is_read():
    found = read_settings_text("net.ipv4.tcp_fin_timeout = many\nnet.ipv4.tcp_sack = 1\n").sysctls
    assert isinstance(found["net.ipv4.tcp_fin_timeout"], Missing)
    assert found["net.ipv4.tcp_sack"] == 1


def test_secrets_are_left_out():
    found = read_settings_text(
        "net.ipv4.tcp_fastopen_key = 0123-4567-89ab-cdef\nnet.ipv6.conf.lo.stable_secret = fe80::1\n"
        "net.ipv4.tcp_fastopen = 1\n"
    ).sysctls
    assert set(found) == {"net.ipv4.tcp_fastopen"}


def test_two_values_of_one_key_are_none():
    found = read_settings_text(
        "net.ipv4.tcp_sack = 1\nnet.ipv4.tcp_sack = 0\nnet.core.somaxconn = 7\n"
    ).sysctls
    assert isinstance(found["net.ipv4.tcp_sack"], Missing)
    same = read_settings_text("net.ipv4.tcp_sack = 1\nnet.ipv4.tcp_sack = 1\n").sysctls
    assert same["net.ipv4.tcp_sack"] == 1


@pytest.mark.parametrize(
    "text", ["", "tcp 0 0 127.0.0.1:1 0.0.0.0:* LISTEN", "a = b", "net.core.somaxconn=17"]
)
def test_another_text_holds_no_settings(text):
    assert "sysctl" not in forms_in(text)
    assert isinstance(read_settings_text(text).sysctls, Missing)


def test_the_running_kernels_settings_are_those_of_a_live_look():
    try:
        printed = subprocess.run(["sysctl", "-a"], capture_output=True, text=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("sysctl is not installed")
    found = read_settings_text(printed.stdout).sysctls
    moving = {"fs.file-nr", "net.netfilter.nf_conntrack_count"}
    for name, value in read_sysctls().items():
        if not isinstance(value, Missing) and name not in moving:
            assert found[name] == value, name
