"""Every error has a page that is complete, found by any usual spelling, and refers to what exists."""

import errno

import pytest

from tcpdoctor.errors import QuestionError
from tcpdoctor.facts.deadlines import DEADLINE_SYSCTLS, state_deadlines
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.knowledge import resource
from tcpdoctor.knowledge.error_pages import error_names, find_error
from tcpdoctor.knowledge.option_pages import find_option
from tcpdoctor.knowledge.state_pages import find_state
from tcpdoctor.knowledge.sysctl_pages import find_sysctl

PAGES = [find_error(name) for name in error_names()]

EXPECTED = (
    "EADDRINUSE EADDRNOTAVAIL EACCES EPERM ECONNREFUSED ECONNRESET ECONNABORTED ETIMEDOUT EMFILE "
    "ENFILE EPIPE EINPROGRESS EALREADY EISCONN ENOTCONN ENOBUFS ENOMEM EHOSTUNREACH ENETUNREACH "
    "ENETDOWN EAGAIN EINTR EINVAL EAFNOSUPPORT EPROTO EMSGSIZE ENOTSOCK"
)


@pytest.mark.parametrize("name", EXPECTED.split())
def test_there_is_a_page(name):
    assert find_error(name).number == getattr(errno, name)


@pytest.mark.parametrize(
    "asked",
    [
        "EADDRINUSE",
        "eaddrinuse",
        "addrinuse",
        "Address already in use",
        "98",
        "errno 98",
        "Errno98",
        "[Errno 98] Address already in use",
        "OSError: [Errno 98] Address already in use",
        "os error 98",
        "-98",
    ],
)
def test_every_usual_spelling_is_understood(asked):
    assert find_error(asked).name == "EADDRINUSE"


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("EWOULDBLOCK", "EAGAIN"),
        ("Broken pipe", "EPIPE"),
        ("BrokenPipeError", "EPIPE"),
        ("Connection reset by peer", "ECONNRESET"),
        ("ConnectionRefusedError: [Errno 111] Connection refused", "ECONNREFUSED"),
        ("Cannot assign requested address", "EADDRNOTAVAIL"),
        ("timeout", "ETIMEDOUT"),
        ("ENOTSUP", "EOPNOTSUPP"),
    ],
)
def test_names_of_languages_and_texts_are_understood(asked, name):
    assert find_error(asked).name == name


@pytest.mark.parametrize(
    ("asked", "nearest"), [("EADDRINUS", "EADDRINUSE"), ("ECONREFUSED", "ECONNREFUSED"), ("EMFIL", "EMFILE")]
)
def test_an_unknown_error_gets_the_nearest(asked, nearest):
    with pytest.raises(QuestionError, match=f"did you mean {nearest}\\?"):
        find_error(asked)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ("9999", "no error has the number 9999"),
        ("2", "2 is ENOENT (No such file or directory), which calls on TCP sockets do not give"),
        ("ENOENT", "2 is ENOENT"),
    ],
)
def test_an_error_of_other_calls_is_said_to_be_one(asked, complaint):
    with pytest.raises(QuestionError) as raised:
        find_error(asked)
    assert complaint in str(raised.value)


def test_only_the_page_that_was_asked_for_is_read(monkeypatch):
    seen = []
    original = resource.read_table
    monkeypatch.setattr(
        "tcpdoctor.knowledge.error_pages.read_table", lambda name: seen.append(name) or original(name)
    )
    find_error("98")
    assert seen == ["errors/eaddrinuse.toml"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_complete_and_in_sentences(page):
    assert page.means.endswith(".")
    assert page.calls
    assert page.ask
    assert page.mistaken
    assert page.remedy
    for call in page.calls:
        assert call.why
        assert all(why.endswith(".") for why in call.why)
    for wrong in page.mistaken:
        assert not wrong.claim.endswith(".")
        assert not wrong.truth.endswith(".")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_looks_at_here_exists(page):
    sysctls = dict.fromkeys(DEADLINE_SYSCTLS, Missing("not asked"))
    for look in page.here:
        assert [look.sysctl, look.state, look.fact].count(None) == 2
        if look.state is not None:
            assert look.case in {deadline.case for deadline in state_deadlines(look.state, sysctls)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_refers_to_exists(page):
    find = {"--option": find_option, "--sysctl": find_sysctl, "--state": find_state}
    for other in page.see:
        question, _, name = other.removeprefix("explain ").rpartition(" ")
        assert find.get(question, find_error)(name)
