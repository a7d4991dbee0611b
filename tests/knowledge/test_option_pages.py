"""Every option has a page that is complete, found by any usual spelling, and read alone."""

import pytest

from tcpdoctor.errors import QuestionError
from tcpdoctor.knowledge import resource
from tcpdoctor.knowledge.option_pages import LANGUAGES, find_option, option_names

PAGES = [find_option(name) for name in option_names()]

EXPECTED = (
    "SO_REUSEADDR SO_REUSEPORT SO_KEEPALIVE TCP_KEEPIDLE TCP_KEEPINTVL TCP_KEEPCNT TCP_USER_TIMEOUT "
    "SO_LINGER TCP_LINGER2 TCP_DEFER_ACCEPT IPV6_V6ONLY IP_BIND_ADDRESS_NO_PORT IP_LOCAL_PORT_RANGE "
    "SO_RCVBUF SO_SNDBUF TCP_NODELAY TCP_CORK TCP_SYNCNT TCP_FASTOPEN TCP_NOTSENT_LOWAT TCP_RTO_MAX_MS "
    "TCP_CONGESTION SO_BINDTODEVICE IP_FREEBIND IP_TRANSPARENT TCP_MAXSEG TCP_QUICKACK SO_RCVLOWAT "
    "SO_RCVTIMEO SO_SNDTIMEO"
)


@pytest.mark.parametrize("name", EXPECTED.split())
def test_there_is_a_page(name):
    assert find_option(name).name == name


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ("SO_REUSEADDR", "SO_REUSEADDR"),
        ("so-reuseaddr", "SO_REUSEADDR"),
        ("reuseaddr", "SO_REUSEADDR"),
        ("ReuseAddr", "SO_REUSEADDR"),
        ("socket.SO_REUSEADDR", "SO_REUSEADDR"),
        ("SOL_SOCKET/SO_REUSEADDR", "SO_REUSEADDR"),
        ("keepalive", "SO_KEEPALIVE"),
        ("TCP_KEEPALIVE", "TCP_KEEPIDLE"),
        ("nodelay", "TCP_NODELAY"),
        ("tcp nodelay", "TCP_NODELAY"),
        ("TCP_NOPUSH", "TCP_CORK"),
        ("v6only", "IPV6_V6ONLY"),
        ("linger", "SO_LINGER"),
        ("linger2", "TCP_LINGER2"),
        ("SO_RCVBUFFORCE", "SO_RCVBUF"),
        ("mss", "TCP_MAXSEG"),
    ],
)
def test_every_usual_spelling_is_understood(asked, name):
    assert find_option(asked).name == name


@pytest.mark.parametrize(
    ("asked", "nearest"),
    [("SO_REUSEADR", "SO_REUSEADDR"), ("TCP_KEEPIDL", "TCP_KEEPIDLE"), ("TCP_NODELY", "TCP_NODELAY")],
)
def test_an_unknown_option_gets_the_nearest(asked, nearest):
    with pytest.raises(QuestionError, match=f"did you mean {nearest}\\?"):
        find_option(asked)


def test_only_the_page_that_was_asked_for_is_read(monkeypatch):
    seen = []
    original = resource.read_table
    monkeypatch.setattr(
        "tcpdoctor.knowledge.option_pages.read_table", lambda name: seen.append(name) or original(name)
    )
    find_option("reuseport")
    assert seen == ["options/so_reuseport.toml"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_is_complete_and_in_sentences(page):
    assert page.does.endswith(".")
    assert page.set_when.endswith(".")
    assert page.mistaken
    assert page.since
    assert tuple(page.code) == tuple(LANGUAGES)
    for text in (page.beware, page.inherited_is, page.runtimes):
        assert text is None or text.endswith(".")
    for wrong in page.mistaken:
        assert not wrong.claim.endswith(".")
        assert not wrong.truth.endswith(".")
    assert (page.limits is None) == (page.outside is None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_code_fits_beside_the_language_s_name_in_80_columns(page):
    for code in page.code.values():
        if not code.startswith("not "):
            assert max(len(line.expandtabs(2)) for line in code.splitlines()) <= 69, code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_refers_to_exists(page):
    for other in page.see:
        if not other.startswith("explain "):
            assert find_option(other).name == other
