"""Very many sockets as JSON: one object, written piece by piece."""

import json

import pytest

from tcpdoctor.answers.socket import told_socket
from tcpdoctor.answers.sockets import Sockets, entries_of
from tcpdoctor.cli.sockets import sockets_parts
from tcpdoctor.kernel.namespaces import Identity
from tcpdoctor.kernel.reading import Missing
from tcpdoctor.kernel.survey import Seen, Survey
from tcpdoctor.report.document import as_json
from tests.facts.samples import CONNECTION, LISTENER, several
from tests.schemas import described

HOST = Identity("web1", "6.18.44", 4026531840, None, True, 0)


def answer(*rows):
    seen = tuple(Seen(row, Missing("socket options were not asked for")) for row in rows)
    survey = Survey(seen, len(seen), {}, {})
    return Sockets(HOST, 1795176000.0, entries_of(survey), survey, options=False)


@pytest.mark.parametrize("number", [0, 1, 23])
def test_the_pieces_are_one_object_with_one_socket_a_line(number):
    given = answer(*([LISTENER] if number else []), *several(number, CONNECTION))
    text = "".join(sockets_parts(given))
    document = described(text)
    rows = [as_json(told_socket(entry, options=False)) for entry in given.entries]
    assert document["sockets"] == json.loads(json.dumps(rows))
    assert document["total"] == len(rows)
    lines = [line for line in text.splitlines() if line.lstrip().startswith('{"state"')]
    assert len(lines) == len(rows)
    assert text.endswith("}\n")


def test_a_piece_holds_one_socket_however_many_there_are():
    longest = max(map(len, sockets_parts(answer(*several(997, CONNECTION)))))
    assert longest < 1500
