"""The kernel gives each error from the calls, and for the reasons, that `explain --error` tells."""

import errno
import resource
import socket

import pytest

from tcpdoctor.knowledge.error_pages import error_names, find_error
from tests.live.provocations import PROVOCATIONS
from tests.live.provoke_opening import listener
from tests.live.provoke_transfer import no_descriptor_left

NOT_PROVOKED = {
    "ENFILE": "fs.file-max is the whole machine's",
    "ENOMEM": "it takes the machine's memory",
    "EPROTO": "accept() never gives it; for connect() see test_claims.py",
    "ECONNABORTED": "SOCK_DESTROY is a build option of the kernel",
}


def answer(number: int) -> int | str:
    """What the provoked call says."""
    try:
        result = PROVOCATIONS[number][2]()
    except OSError as error:
        return error.errno or 0
    return f"no error but {result!r}"


@pytest.mark.parametrize(
    "number",
    range(len(PROVOCATIONS)),
    ids=lambda number: f"{PROVOCATIONS[number][0]}-{PROVOCATIONS[number][2].__name__}-{number}",
)
def test_the_call_gives_the_error_and_the_page_names_the_call(in_namespace, number):
    name, call, _ = PROVOCATIONS[number]
    assert in_namespace(answer, number) == getattr(errno, name)
    assert any(call in told.call for told in find_error(name).calls), f"{name}: {call} is not told"


def test_every_error_is_provoked_or_has_its_reason():
    assert set(error_names()) == {name for name, _, _ in PROVOCATIONS} | set(NOT_PROVOKED)


def accept_when_there_is_room_again() -> str:
    server = listener()
    client = socket.create_connection(server.getsockname())
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    no_descriptor_left()
    try:
        server.accept()
    except OSError as error:
        first = errno.errorcode[error.errno or 0]
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    server.setblocking(False)
    accepted, address = server.accept()
    with accepted:
        return f"{first}, then {'the same client' if address == client.getsockname() else 'another'}"


def test_without_a_descriptor_the_connection_stays_in_the_accept_queue(in_namespace):
    assert in_namespace(accept_when_there_is_room_again) == "EMFILE, then the same client"
