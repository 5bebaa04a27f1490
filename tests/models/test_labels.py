import os
import tracemalloc

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from edge_agent.errors import ModelError
from edge_agent.models.labels import named_by, read_labels
from tests.fixtures import SHARED, needs_shared


@pytest.fixture
def read(tmp_path):
    """Reads what a file of this name would hold."""

    def _read(content: str | bytes, name: str = "labels.txt"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_labels(path)

    return _read


@pytest.mark.parametrize(
    "content",
    [b"cap\ncrack\n", b"cap\r\ncrack\r\n", b"\xef\xbb\xbfcap\ncrack", b" cap \ncrack\n\n  \n", b"cap\rcrack"],
    ids=["lines", "CRLF", "BOM", "blank lines at the end", "CR"],
)
def test_labels_are_one_per_line_however_the_lines_end(read, content):
    assert read(content) == ("cap", "crack")


def test_labels_may_be_in_any_language(read):
    assert read("tapón\n瓶\n") == ("tapón", "瓶")


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("0 person\n1 bicycle\n2 car", ("person", "bicycle", "car")),
        ("1 person\n2 bicycle\n3 car\n", ("person", "bicycle", "car")),
        ("0  person\r\n1\tbicycle\r\n2: car\r\n", ("person", "bicycle", "car")),
        ("0:person\n1:traffic light", ("person", "traffic light")),
        ("0 person\n1 bicycle\n3 car", ("person", "bicycle", "class_2", "car")),
        ("1 person\n\n2 bicycle\n\n4 car", ("person", "bicycle", "class_2", "car")),
        ("0 background\n1 tench", ("background", "tench")),
        ("0 cap", ("cap",)),
    ],
    ids=["from 0", "from 1", "mixed signs", "colons", "gap", "gap and empty lines", "a class called background", "one"],
)
def test_ids_before_the_names_say_which_class_each_is(read, content, labels):
    assert read(content) == labels


@pytest.mark.parametrize(
    "labels",
    [
        ("1 cent", "2 cent", "5 cent"),
        ("1 cent", "2 cent", "3 cent"),
        ("0 cap", "crack"),
        ("2 caps", "3 cracks"),
        ("1 cap", "1 crack"),
        ("1 cap", "3 crack", "2 chip"),
        ("0.5 l", "1 l"),
        ("1", "2"),
    ],
)
def test_names_that_begin_with_a_number_are_names(read, labels):
    assert read("\n".join(labels)) == labels


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("???\nperson\n???\ncar", ("person", "class_1", "car")),
        ("0 ???\n1 person\n2 ???\n3 car\n4 ???", ("person", "class_1", "car", "class_3")),
        ("person\n???", ("person", "class_1")),
        ("what???\ncar", ("what???", "car")),
    ],
    ids=["first line", "with ids", "only later", "part of a name"],
)
def test_three_question_marks_are_no_name_and_the_background_in_the_first_line(read, content, labels):
    assert read(content) == labels


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("item { id: 1 name: 'cap' }\nitem { id: 2 name: 'crack' }", ("cap", "crack")),
        ("item { id: 0 name: 'cap' }\nitem { id: 1 name: 'crack' }", ("cap", "crack")),
        ("item { id: 0 name: 'background' }\nitem { id: 1 name: 'cap' }", ("cap",)),
        ("item { id: 2 name: 'crack' } item { name: 'cap' id: 1 } item { id: 4 name: 'chip' }",
         ("cap", "crack", "class_2", "chip")),
        ('item {\n  name: "/m/01g317"\n  id: 1\n  display_name: "person"\n}\n', ("person",)),
        ("# of the training\nitem: < id: 1, name: 'cap'; > # the end", ("cap",)),
        ("item { id: 1 name: 'cap' keypoints { id: 7 label: 'rim' } frequency: FREQUENT }", ("cap",)),
        ("item { id: 1 name: 'it\\'s' } item { id: 2 name: \"tap\\303\\263n\" }", ("it's", "tapón")),
    ],
    ids=["from 1", "from 0", "background", "gap and order", "display_name", "other signs", "other fields", "escapes"],
)  # fmt: skip
@pytest.mark.parametrize("name", ["caps.pbtxt", "labels.txt"])
def test_label_maps_are_read_whatever_they_are_called(read, content, labels, name):
    assert read(content, name) == labels


@needs_shared
def test_the_label_map_of_the_real_model_names_its_37_breeds():
    labels = read_labels(SHARED / "fixtures" / "models" / "ssd_mobilenet_pets.pbtxt")
    assert (len(labels), labels[0], labels[36]) == (37, "Abyssinian", "yorkshire_terrier")


@needs_shared
def test_the_labels_of_the_real_model_have_no_carriage_returns():
    labels = read_labels(SHARED / "fixtures" / "models" / "yolox_nano_416_coco.txt")
    assert (len(labels), labels[0], labels[79]) == (80, "person", "toothbrush")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"cap\n\ncrack\n", r"labels.txt, line 2: is empty, so class 1 has no name"),
        (b"cap\ntap\xf3n\n", r"labels.txt, line 2: is not UTF-8 text"),
        ("cap\n".encode("utf-16"), r"labels.txt, line 1: is not UTF-8 text"),
        (b"cap\ncr\x00ack\n", r"labels.txt, line 2: .* cannot be printed"),
        (b"\n\n", "labels.txt: there are no labels in it"),
        (b"", "labels.txt: there are no labels in it"),
        (b"???", "labels.txt: there are no labels in it"),
        (b"0 cap\n1 crack\n1 chip", r"labels.txt, line 3: the id 1 comes after 1; each must be above the last"),
        (b"0 cap\n2 crack\n1 chip", r"labels.txt, line 3: the id 1 comes after 2"),
        (b"0 cap\n1000000000 crack", r"labels.txt, line 2: the id 1000000000 is above 99,999"),
        (b"0 cap\n" + b"9" * 6000 + b" crack", r"labels.txt, line 2: the id .* is above 99,999"),
        (b"cap\n" * 100_001, r"labels.txt, line 100001: there are more than 100,000 lines"),
        (b"cap\n" + b"x" * 201, r"labels.txt, line 2: has 201 characters; a name has at most 200"),
    ],
    ids=["gap", "latin-1", "utf-16", "NUL", "blank", "empty", "only background", "twice", "order", "absurd", "digits",
         "too many", "too long"],
)  # fmt: skip
def test_a_text_that_cannot_be_used_is_refused_with_file_and_line(read, content, says):
    with pytest.raises(ModelError, match=says):
        read(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("item {\n id: 1\n name: 'a'\n}\nitem {\n id: 1\n name: 'b'\n}", "line 5: the id 1 is that of line 1 already"),
        ("item { id: 1 name: 'a' }\nitem { id: 2 name: 'b'", "line 2: the item that begins here has no end"),
        ("\nitem { id: 1000000000 name: 'a' }", "line 2: the id 1000000000 is above 99,999"),
        ("item { id: -1 name: 'a' }", "line 1: the id '-1' is no whole number"),
        ("item { id: 'x' name: 'a' }", "line 1: the id .* is no whole number"),
        ("item { name: 'a' }", "line 1: the item here has no id"),
        ("item { id: 1 }", "line 1: the item with the id 1 has no name"),
        ("item { id: 1 name: 'a }", 'line 1: "\'a }" cannot stand in a label map'),
        ("item { id: 1 name: '\\377' }", "line 1: .* is not UTF-8 text"),
        ("item { id: 1 name: 'a\\001' }", "line 1: .* cannot be printed"),
        ("node { name: 'Placeholder' }", "line 1: 'node' begins no entry of a label map; write item { id: 1"),
        ("cap\ncrack", "line 1: 'cap' begins no entry of a label map"),
        ("item", "line 1: 'item' begins no entry"),
        ("", "there are no labels in it"),
        ("# nothing", "there are no labels in it"),
    ],
)
def test_a_label_map_that_cannot_be_used_is_refused_with_file_and_line(read, content, says):
    with pytest.raises(ModelError, match=rf"caps\.pbtxt.*{says}"):
        read(content, "caps.pbtxt")


def test_a_missing_labels_file_is_refused(tmp_path):
    with pytest.raises(ModelError, match=r"labels\.txt: the labels cannot be read: No such file"):
        read_labels(tmp_path / "labels.txt")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ModelError, match="is a folder; name the file with the labels in it"):
        read_labels(tmp_path)


def test_a_pipe_that_nobody_writes_to_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "labels.txt")
    with pytest.raises(ModelError, match="is a device, not a file with labels"):
        read_labels(tmp_path / "labels.txt")


def test_a_huge_file_is_refused_and_not_read_to_its_end(tmp_path):
    with (tmp_path / "labels.txt").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ModelError, match="has more than 2 MB, so it is no file with labels"):
        read_labels(tmp_path / "labels.txt")


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"\n" * (2 << 20), "labels.txt"),
        (b"cap\n" * (1 << 19), "labels.txt"),
        (b"cap" + b" " * (1 << 20) + b"\x00", "labels.txt"),
        (b"'" + b"\\" * (1 << 20), "labels.pbtxt"),
        (b"item" + b" " * (1 << 20), "labels.pbtxt"),
        (b"item { " + b"".join(b"%x:1 " % n for n in range(1 << 16)), "labels.pbtxt"),
    ],
    ids=["empty lines", "names", "blanks", "backslashes", "item", "fields"],
)
def test_a_big_file_of_nonsense_is_refused_without_much_memory(read, content, name):
    tracemalloc.start()
    try:
        with pytest.raises(ModelError):
            read(content, name)
        most_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert most_bytes < 16 * len(content)


_LINES = st.lists(st.from_regex(r"[0-9]{0,12}[ :\t]{0,2}[a-c?]{0,3}", fullmatch=True)).map("\n".join)
_MAPS = st.lists(
    st.sampled_from(["item", "{", "}", ":", "id", "name", "display_name", "0", "1", "'a'", '"b"', "'\\'", "#", "\n"])
).map(" ".join)


@settings(max_examples=300)
@given(st.binary() | st.text().map(str.encode) | _LINES.map(str.encode) | _MAPS.map(str.encode), st.booleans())
@example(b"item{" * 50_000, True)
@example(b"'" + b"\\" * 100_000, True)
@example(b"0" + b" " * 100_000, False)
def test_no_file_whatever_gives_anything_but_labels_or_a_refusal(tmp_path_factory, content, is_map):
    path = tmp_path_factory.getbasetemp() / ("any.pbtxt" if is_map else "any.txt")
    path.write_bytes(content)
    try:
        labels = read_labels(path)
    except ModelError:
        return
    assert labels
    assert all(label and label.isprintable() and label == label.strip() for label in labels)


def test_lines_of_a_text_inside_a_model_are_read_alike():
    assert named_by(["???", "person", "car"]) == ("person", "car")
    assert named_by(["0  person", "1  bicycle", "3  car", ""]) == ("person", "bicycle", "class_2", "car")


def test_an_empty_line_inside_a_model_is_a_class_without_a_name():
    assert named_by(["person", "", "car"]) == ("person", "class_1", "car")


@pytest.mark.parametrize("lines", [[""], ["0 cap", "0 crack"], ["\x00"]])
def test_lines_inside_a_model_that_name_nothing_are_refused_with_a_way_out(lines):
    with pytest.raises(ModelError, match=r'the labels in it.*; or write labels = "FILE" under'):
        named_by(lines)
