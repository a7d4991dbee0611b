"""JSON documents are read one at a time, with limits, and none is skipped silently."""

import io
import json
import os
import sys

import pytest

from tcpdoctor.kernel import documents
from tcpdoctor.kernel.documents import LARGEST_DOCUMENT, Document, read_documents
from tcpdoctor.kernel.reading import Missing


def read(path):
    return list(read_documents(str(path)))


def write(path, text):
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def reason(path):
    (document,) = read(path)
    assert isinstance(document.value, Missing), document
    return document.value.reason


def test_one_document_spread_over_lines(tmp_path):
    path = write(tmp_path / "web1.json", '{\n "a": [1,\n 2]\n}\n')
    assert read(path) == [Document(str(path), "web1", {"a": [1, 2]})]


def test_one_document_on_one_line_with_a_byte_order_mark(tmp_path):
    path = write(tmp_path / "web1.json", b'\xef\xbb\xbf{"a": 1}\n\n')
    assert read(path) == [Document(str(path), "web1", {"a": 1})]


def test_one_document_on_each_line_and_a_damaged_one_between(tmp_path):
    path = write(tmp_path / "all.jsonl", '{"a": 1}\n{"b\n\n{"c": 3}')
    first, damaged, last = read(path)
    assert (first.value, first.name, last.value) == ({"a": 1}, None, {"c": 3})
    assert (damaged.source, last.source) == (f"{path} line 2", f"{path} line 4")
    assert damaged.value.reason.startswith("damaged at line 1 column 2")


def test_a_damaged_first_line_does_not_hide_the_others(tmp_path):
    values = [document.value for document in read(write(tmp_path / "all.jsonl", '{"a\n{"b": 2}\n'))]
    assert isinstance(values[0], Missing)
    assert values[1] == {"b": 2}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "it is empty"),
        (" \n\n ", "it is empty"),
        ('{"a": 1', "damaged at line 1 column 8"),
        ('{\n "a": 1,\n "b', "damaged at line 3 column 2"),
        ("[" * 200_000, "nested too deeply"),
        ('{\n"a":' * 200_000, "nested too deeply"),
        ("[" + "[]," * 300_000 + "[]]", "it has more parts than any report"),
        ("[NaN]", "NaN is no JSON"),
        ("[-Infinity]", "-Infinity is no JSON"),
        ("9" * 5000, "damaged: "),
        (b'{"a": "\xff"}', "byte 7 is not UTF-8"),
    ],
)
def test_damage_is_a_reason_and_never_an_exception(tmp_path, content, expected):
    assert expected in reason(write(tmp_path / "a.json", content))


def test_files_that_are_too_long_are_refused_by_their_length(tmp_path):
    one = write(tmp_path / "a.json", '{\n"a": "' + "x" * LARGEST_DOCUMENT + '"}')
    assert reason(one).startswith(f"longer than {LARGEST_DOCUMENT}")


def test_only_the_line_that_is_too_long_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "LARGEST_DOCUMENT", 100)
    lines = ['{"a": 1}', '"' + "x" * 300 + '"', '{"b": 2}', '"' + "y" * 99 + '"', '{"c": 3}']
    values = [document.value for document in read(write(tmp_path / "all.jsonl", "\n".join(lines) + "\n"))]
    assert [value for value in values if not isinstance(value, Missing)] == [{"a": 1}, {"b": 2}, {"c": 3}]
    assert [value.reason for value in values if isinstance(value, Missing)] == [
        "longer than 100 bytes: is it a report?"
    ] * 2


@pytest.mark.parametrize("size", [7, 8, 9, 10, 11, 17, 18, 19, 20, 26, 27, 28])
def test_lines_come_whole_wherever_the_first_read_ended(tmp_path, monkeypatch, size):
    monkeypatch.setattr(documents, "LARGEST_DOCUMENT", size)
    path = write(tmp_path / "all.jsonl", "[1,2,3]\n[4,5,6]\n[7,8,9]\n")
    assert [document.value for document in read(path)] == [[1, 2, 3], [4, 5, 6], [7, 8, 9]]


def test_a_folder_gives_its_files_in_order_and_those_below(tmp_path):
    for name in ("b.json", "a.json", "c.txt", ".hidden.json", "below/d.jsonl", ".old/e.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write(tmp_path / name, "{}")
    (tmp_path / "again").symlink_to(tmp_path)
    names = [os.path.relpath(document.source, tmp_path) for document in read(tmp_path)]
    assert names == ["a.json", "b.json", "below/d.jsonl"]


def test_an_empty_folder_and_what_is_not_there_are_told(tmp_path):
    assert reason(tmp_path) == "the folder holds no file of *.json, *.jsonl, *.ndjson"
    assert reason(tmp_path / "web9.json") == "no such file or directory"
    assert reason("nul\0") == "this cannot be a file name"


def test_nothing_waits_for_a_pipe_that_somebody_put_into_the_folder(tmp_path):
    os.mkfifo(tmp_path / "web1.json")
    assert reason(tmp_path) == "not a regular file"
    assert reason("/dev/zero") == "not a regular file"


def test_nothing_waits_for_a_link_to_a_file_of_proc_that_somebody_put_into_the_folder(tmp_path):
    (tmp_path / "web1.json").symlink_to("/proc/kmsg")
    assert reason(tmp_path) == "not a regular file"
    assert reason("/proc/self/status") == "not a regular file"


def test_a_pipe_is_read_where_it_is_named(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b'{"a": 1}')
    os.close(writer)
    (document,) = read(f"/dev/fd/{reader}")
    os.close(reader)
    assert (document.value, document.name) == ({"a": 1}, None)


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"a": 1}\n{"b": 2}\n')))
    assert [(document.source, document.value) for document in read("-")] == [
        ("standard input line 1", {"a": 1}),
        ("standard input line 2", {"b": 2}),
    ]


def test_names_of_files_are_safe_to_show(tmp_path):
    (document,) = read(write(tmp_path / "\x1b[31mweb\u202e1.json", "{}"))
    assert document.name == "[31mweb1"
    assert document.source.isprintable()


def test_documents_behind_each_other_as_cat_joins_them(tmp_path):
    one, two = json.dumps({"a": [1, {"b": "}\n{"}]}, indent=1), json.dumps({"c": 2}, indent=1)
    for between in ("\n", "", "\n\n", " "):
        path = write(tmp_path / "all.json", between.join([one, two, one]) + "\n")
        assert [document.value for document in read(path)] == [json.loads(one), {"c": 2}, json.loads(one)]
        assert {document.name for document in read(path)} == {None}


def test_documents_without_anything_between_them_on_one_line(tmp_path):
    path = write(tmp_path / "all.json", '{"a": 1}{"b": 2} [3]\n{"c":\n 4}')
    assert [(document.source, document.value) for document in read(path)] == [
        (f"{path} line 1", {"a": 1}),
        (f"{path} line 1", {"b": 2}),
        (f"{path} line 1", [3]),
        (f"{path} line 2", {"c": 4}),
    ]


def test_what_is_cut_off_ends_where_the_next_document_begins(tmp_path):
    whole = json.dumps({"a": {"b": 1}}, indent=1)
    path = write(tmp_path / "all.json", f"{whole}\n{whole[:9]}\n{whole}\nnoise\n")
    first, cut, second, noise = read(path)
    assert first.value == second.value == json.loads(whole)
    assert (cut.source, noise.source) == (f"{path} line 6", f"{path} line 13")
    assert all(isinstance(one.value, Missing) for one in (cut, noise))


def test_countless_documents_are_never_held_together(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "LARGEST_DOCUMENT", 60)
    one = json.dumps({"a": 1, "b": [2, 3]}, indent=1)
    path = write(tmp_path / "all.json", one * 97)
    assert [document.value for document in read(path)] == [json.loads(one)] * 97


def test_only_the_document_that_is_too_long_is_lost(tmp_path, monkeypatch):
    monkeypatch.setattr(documents, "LARGEST_DOCUMENT", 60)
    well, long = json.dumps({"a": 1}, indent=1), json.dumps({"a": ["x" * 20] * 4, "b": "y" * 90}, indent=1)
    path = write(tmp_path / "all.json", "\n".join([well, long, well]))
    first, lost, last = read(path)
    assert first.value == last.value == {"a": 1}
    assert lost.value == Missing("longer than 60 bytes: is it a report?")
