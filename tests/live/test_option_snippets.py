"""The code on the options' pages is code: Python runs, C compiles and sets what it says."""

import shutil
import socket
import socketserver
import struct
import subprocess

import pytest

from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.sockopts import read_fresh_option, read_option
from tcpdoctor.knowledge.option_pages import LANGUAGES, find_option, option_names

NAMES = option_names()
ONLY_READ = ("SO_ACCEPTCONN", "SO_COOKIE")
BY_POLL = ("SO_RCVTIMEO", "SO_SNDTIMEO")
"""Python's settimeout() sets no option of the kernel."""


def run_python(name: str) -> tuple[object, object]:
    """The option's value before and after the page's Python."""
    page = find_option(name)
    option = page.option()
    six = page.level == "IPPROTO_IPV6"
    with socket.socket(socket.AF_INET6 if six else socket.AF_INET) as sock:
        before = read_option(sock, option)
        if isinstance(before, Missing):
            return "old kernel", "old kernel still"
        names = {"sock": sock, "sock6": sock, "source": "127.0.0.1"}
        modules = {"socket": socket, "struct": struct, "socketserver": socketserver}
        exec(page.code["python"].replace("eth0", "lo"), {**names, **modules})  # noqa: S102 - our own data
        return before, read_option(sock, option)


@pytest.mark.parametrize("name", NAMES)
def test_the_python_of_a_page_sets_the_option(in_namespace, name):
    before, after = in_namespace(run_python, name)
    if name in (*ONLY_READ, *BY_POLL, "TCP_QUICKACK"):  # QUICKACK is on already
        assert after == before
    else:
        assert after != before


PROGRAM = """
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
"""


@pytest.mark.parametrize("compiler", [path for path in (shutil.which("gcc"),) if path])
def test_the_c_of_every_page_compiles(tmp_path, compiler):
    functions = [f"void set_{name}(int fd) {{\n{find_option(name).code['c']}\n}}\n" for name in NAMES]
    source = tmp_path / "options.c"
    source.write_text(PROGRAM + "\n".join(functions), encoding="ascii")
    command = [compiler, "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    done = subprocess.run(
        [*command, "-Wno-unused-but-set-variable", str(source)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_for_each_language_how_or_that_it_cannot(name):
    page = find_option(name)
    assert set(page.code) == set(LANGUAGES)
    assert page.name == name
    assert all(code.strip() for code in page.code.values())


@pytest.mark.parametrize("name", [name for name in NAMES if hasattr(socket, name)])
def test_the_number_is_python_s_own(name):
    assert find_option(name).number == getattr(socket, name)


def test_a_new_socket_tells_the_defaults():
    assert read_fresh_option(find_option("SO_REUSEADDR").option()) is False
    assert read_fresh_option(find_option("TCP_NODELAY").option()) is False
    assert read_fresh_option(find_option("SO_RCVTIMEO").option()) == "none"
