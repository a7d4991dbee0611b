"""The HTML page of `check`: whole, self-contained, and safe from what strangers choose."""

import re
from html.parser import HTMLParser

import pytest

from tcpdoctor.answers.check import Checks, with_measures
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.snapshot import Destination, DestinationUse, Detail
from tcpdoctor.kernel.states import TcpState
from tcpdoctor.report.check_formats import render_everywhere
from tcpdoctor.report.check_html import check_html
from tcpdoctor.report.style import PLAIN
from tests.facts.samples import CONNECTION
from tests.facts.samples import INFO as TCP_INFO
from tests.report.examples import CENSUS, CRITICAL, FINDING, HIDDEN, INAPPLICABLE, SNAPSHOT, check
from tests.report.hostile import NASTY_FINDING

VOID = {"meta", "link", "br"}


class Reader(HTMLParser):
    """Refuses what is not closed in order; collects elements, attributes and text."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], ""

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += "" if self.open[-1:] == ["style"] else data


def read(answer, only=None):
    reader = Reader()
    reader.feed(check_html(with_measures(answer, "html"), only))
    reader.close()
    assert reader.open == []
    return reader


@pytest.mark.parametrize(
    "answer",
    [
        check(),
        check(FINDING, CRITICAL, unchecked=[HIDDEN]),
        check(NASTY_FINDING),
        check(snapshot=SNAPSHOT._replace(census=Missing("EPERM"), detail=Missing("EPERM"))),
        check(*[CRITICAL._replace(label=f"l{number}") for number in range(23)]),
    ],
)
def test_it_is_well_formed_and_asks_for_nothing(answer):
    page = read(answer)
    assert not {"script", "iframe", "object", "img", "form", "base"} & set(page.tags)
    names = {name for name, _ in page.attributes}
    assert not [name for name in names if name.startswith("on") or name in ("src", "action", "xlink:href")]
    targets = {value for name, value in page.attributes if name == "href"}
    assert all(target == "data:," or target.startswith("#rule-") for target in targets)
    style = check_html(with_measures(answer, "html")).partition("<style>")[2].partition("</style>")[0]
    assert not re.search(r"@import|url\(|https?:", style)
    assert "default-src 'none'" in check_html(with_measures(answer, "html"))


def test_every_link_has_its_place():
    page = read(check(FINDING, CRITICAL))
    places = {value for name, value in page.attributes if name == "id"}
    links = {value[1:] for name, value in page.attributes if name == "href" and value.startswith("#")}
    assert links == {"rule-fin-wait-2-held-open", "rule-accept-queue-full"}
    assert links <= places


def test_everything_of_a_finding_is_there():
    text = read(check(FINDING)).text
    first = FINDING.fixes[0]
    parts = [
        FINDING.title,
        FINDING.summary,
        FINDING.label,
        "fin_wait_2.owned",
        first.prose,
        *first.commands,
        first.risk,
        first.verify,
    ]
    parts += ["sysctl -w net.ipv4.tcp_fin_timeout=30", FINDING.wrong_fixes[0].why, FINDING.normal_when[0]]
    for part in [*parts, FINDING.references[0].source]:
        assert part in text


def test_states_are_drawn_with_their_numbers_and_the_sick_one_is_marked():
    page = check_html(check(FINDING))
    assert 'class="c-active2 full sick is-warning"' in page
    assert "FIN_WAIT_2 120" in page
    assert "bound ?" in page  # not known, and not 0
    assert "not known" in page


def closing(state, number, age):
    info = TCP_INFO._replace(last_ack_recv=age, last_data_recv=age, last_data_sent=age)
    return Detail((CONNECTION._replace(state=state, info=info),) * number, number)


def test_ages_and_ports_are_told():
    census = CENSUS._replace(
        by_destination={
            Destination("10.0.0.9", "10.0.0.5", 5432): DestinationUse(14116, 7058),
            Destination("10.0.0.9", "10.0.0.6", 80): DestinationUse(3, 0),
        }
    )
    detail = {
        TcpState.CLOSE_WAIT: closing(TcpState.CLOSE_WAIT, 137, 7200.0),
        TcpState.FIN_WAIT_2: closing(TcpState.FIN_WAIT_2, 23, 5.0),
    }
    snapshot = SNAPSHOT._replace(
        census=census,
        detail=detail,
        sysctls={"net.ipv4.ip_local_port_range": (32768, 60999), "net.ipv4.ip_local_reserved_ports": ()},
    )
    text = read(check(snapshot=snapshot)).text
    assert "1 to 24 h137" in text
    assert "1 to 10 s23" in text
    assert "10.0.0.5 port 5432from 10.0.0.914,1167,05850.0%" in text


def test_only_some_findings_are_all_that_is_said():
    page = read(check(FINDING, CRITICAL), (CRITICAL,))
    assert "accept-queue-full" in page.text
    assert "fin-wait-2-held-open" not in page.text
    assert "state machine" not in page.text


def test_of_several_namespaces_the_worst_finding_alone_is_unfolded():
    checks = Checks((check(CRITICAL, FINDING), check(FINDING), check()), (), 0)
    page = render_everywhere(checks, "html", PLAIN)
    assert (page.count("<article "), page.count('<details class="finding')) == (1, 2)
    assert page.index("<article ") < page.index('<details class="finding')


def test_the_contents_say_how_many_more_have_the_same():
    many = [CRITICAL._replace(label=f"0.0.0.0:{number}") for number in range(50)]
    contents = check_html(check(*many, FINDING)).partition('class="toc"')[2].partition("</ul>")[0]
    assert re.findall(r'<span class="whom">([^<]*)<', contents) == ["0.0.0.0:0 and 49 more", FINDING.label]


def test_a_rule_that_does_not_apply_is_not_counted_as_one_without_an_answer():
    told = re.sub(r"<[^>]*>", " ", check_html(check(unchecked=[HIDDEN, INAPPLICABLE])))
    assert re.search(r"\b1 +without full answer +1 +do not apply here\b", told)
    assert "do not apply here" not in check_html(check(unchecked=[HIDDEN]))
