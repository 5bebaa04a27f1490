import json
import random
import string

from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config.lines import DEEPEST, key_lines, parse

# ---- one kind of spelling each


def test_tables_and_keys_have_the_line_they_stand_on():
    assert key_lines("a = 1\n\n[t]\n# comment\nb = 2\n") == {("a",): 1, ("t",): 3, ("t", "b"): 5}


def test_items_of_arrays_of_tables_are_numbered():
    text = "[[cameras]]\nid = 1\n[[cameras]]\nid = 2\n"
    assert key_lines(text) == {
        ("cameras",): 1,
        ("cameras", 0): 1,
        ("cameras", 0, "id"): 2,
        ("cameras", 1): 3,
        ("cameras", 1, "id"): 4,
    }


def test_tables_below_an_array_belong_to_its_last_item():
    lines = key_lines(
        "[[c]]\n[c.trigger]\nkind = 1\n[[c.rules]]\n[[c.rules]]\nx = 1\n[[c]]\n[c.trigger]\n[[c.rules]]\n"
    )
    assert lines["c", 0, "trigger", "kind"] == 3
    assert lines["c", 0, "rules", 1, "x"] == 6
    assert lines["c", 1, "trigger"] == 8
    assert lines["c", 1, "rules", 0] == 9


def test_a_table_that_is_only_implied_stands_where_it_is_first_named():
    assert key_lines("\n[mqtt.tls]\nca = 1\n")["mqtt",] == 2


def test_the_header_of_a_table_wins_over_a_place_that_implies_it():
    assert key_lines("[mqtt.tls]\n\n[mqtt]\nhost = 1\n")["mqtt",] == 3


def test_indented_tables_and_keys_are_found():
    assert key_lines("[[c]]\n  [c.trigger]\n    kind = 1\n")["c", 0, "trigger", "kind"] == 3


def test_each_part_of_a_dotted_key_has_the_line():
    lines = key_lines("[t]\na . b.c = 1\na.d = 2\n")
    assert (lines["t", "a"], lines["t", "a", "b"], lines["t", "a", "b", "c"], lines["t", "a", "d"]) == (2, 2, 2, 3)


def test_quoted_keys_are_found_under_their_real_name():
    text = '\'a.b\' = 1\n"c \\" d" = 2\n["x.y".\'z\']\n"" = 3\n'
    assert key_lines(text) == {
        ("a.b",): 1,
        ('c " d',): 2,
        ("x.y",): 3,
        ("x.y", "z"): 3,
        ("x.y", "z", ""): 4,
    }


def test_keys_after_an_array_of_several_lines_are_right():
    assert key_lines('a = [\n  "x", # ]\n  [1,\n  2],\n]\nb = 1\n') == {("a",): 1, ("b",): 6}


def test_brackets_and_hashes_inside_text_mean_nothing():
    assert key_lines('a = "[ # {"\nb = \'"[\'\nc = 1 # [\nd = 1\n') == {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 4}


def test_keys_after_text_of_several_lines_are_right():
    text = 'a = """\n[no]\n b = 1 \\"""\n"""\nc = \'\'\'\n[[no]] """\n\'\'\'\nd = """x"""""\ne = 1\n'
    assert key_lines(text) == {("a",): 1, ("c",): 5, ("d",): 8, ("e",): 9}


def test_empty_text_does_not_open_text_of_several_lines():
    assert key_lines('a = ""\nb = \'\'\nc = """"""\nd = 1\n') == {("a",): 1, ("b",): 2, ("c",): 3, ("d",): 4}


def test_an_inline_table_stands_on_the_line_of_its_key():
    lines = key_lines('\ntrigger = {kind = "frame"}\nmodel = {path = 1, conf = 2}\n')
    assert lines["trigger", "kind"] == 2
    assert lines["model",] == 3


def test_an_array_of_inline_tables_is_no_array_of_tables():
    assert key_lines("c = [{}]\n[d]\nx = 1\n") == {("c",): 1, ("d",): 2, ("d", "x"): 3}


def test_windows_line_ends_count_once():
    assert key_lines('a = [\r\n1]\r\n\r\nb = """\r\n"""\r\nc = 1\r\n') == {("a",): 1, ("b",): 4, ("c",): 6}


def test_only_line_feeds_end_a_line():
    assert key_lines('# \u2028 \x85\na = "\u2028\u2029"\nb = 1\n') == {("a",): 2, ("b",): 3}


def test_the_last_line_needs_no_end():
    assert key_lines("a = 1") == {("a",): 1}


def test_an_empty_document_has_no_lines():
    assert key_lines("") == {}
    assert key_lines("# nothing\n\n") == {}


def test_very_deep_keys_are_noted_to_a_depth_only():
    lines = key_lines("k" + ".k" * 50 + " = 1\nb = 1\n")
    assert max(map(len, lines)) == DEEPEST
    assert lines["b",] == 2


def test_a_long_list_takes_no_time():
    assert key_lines("a = [\n" + "1,\n" * 50_000 + "]\nb = 1\n") == {("a",): 1, ("b",): 50_003}


# ---- documents whose layout is known, because they are written key by key

_LETTERS = string.ascii_letters + string.digits + "_-"
_ODD_LETTERS = " .#\"'[]={}\t\u2028\x85äß€"
_FILLERS = ["", "   ", "# [no]", "\t# a = 1 \"\"\" '''", "#"]
_VALUES = [
    "1",
    "-0.5e3",
    "true",
    "07:32:00",
    "1979-05-27T00:32:00Z",
    '"text"',
    '"a # [ { \\" b"',
    "'lit # [ \\'",
    '""',
    "''",
    "[]",
    "[[1], [2, 3]]",
    '[ # [\n  "]", # "\n\n  \'[\',\n]',
    "{}",
    "{p = 1, q = [1,\n2]}",
    '"""\n[no]\nno = 1\n"""',
    '"""a\\"""b"""""',
    "'''\n[[no]]\n'\n'''''",
    "[\"\"\"\n]\n\"\"\", {x = '''\n}\n''', y = 1}]",
]


class Writer:
    """Writes a TOML document line by line, and notes where each table and key of it stands."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.lines, self.expected, self.used = [], {}, set()
        self.body(())
        for _ in range(self.random.randrange(4)):
            self.random.choice([self.one_table, self.table_below, self.array])(self.name())

    def one_table(self, name):
        self.table("[{}]", [name], (name,))

    def table_below(self, name):
        inner = self.name()
        self.table("[ {} ]", [name, inner], (name, inner))

    def array(self, name):
        for index in range(self.random.randrange(1, 3)):
            self.table("[[{}]]", [name], (name, index))
            for number in range(self.random.randrange(3)):
                self.table("[[ {}]]", [name, "rules"], (name, index, "rules", number))
            if self.random.random() < 0.5:
                self.table("[{} ]", [name, "trigger"], (name, index, "trigger"))

    def table(self, header, names, path):
        number = self.write(self.indent() + header.format(self.dotted(names)) + self.random.choice(["", " # ]"]))
        for depth in range(1, len(path)):
            self.expected.setdefault(path[:depth], number)
        self.expected[path] = number
        self.body(path)

    def body(self, table):
        for _ in range(self.random.randrange(4)):
            for _ in range(self.random.randrange(3)):
                self.write(self.random.choice(_FILLERS))
            names = [self.name() for _ in range(self.random.randrange(1, 3))]
            value, ending = self.random.choice(_VALUES), self.random.choice(["", "   ", " # [x]"])
            number = self.write(f"{self.indent()}{self.dotted(names)} = {value}{ending}")
            for depth in range(1, len(names) + 1):
                self.expected.setdefault((*table, *names[:depth]), number)

    def write(self, text):
        number = len(self.lines) + 1
        self.lines += text.split("\n")
        return number

    def name(self):
        """One that is new in the document."""
        letters = self.random.choice([_LETTERS, _LETTERS + _ODD_LETTERS])
        name = "".join(self.random.choices(letters, k=self.random.randrange(6)))
        if name in self.used | {"rules", "trigger"}:
            return self.name()
        self.used.add(name)
        return name

    def dotted(self, names):
        return self.random.choice([".", " . ", ".\t"]).join(map(self.key, names))

    def key(self, name):
        if name and set(name) <= set(_LETTERS) and self.random.random() < 0.7:
            return name
        return json.dumps(name, ensure_ascii=self.random.random() < 0.5)

    def indent(self):
        return self.random.choice(["", "  ", "\t"])


@settings(max_examples=300)
@given(st.integers(0, 1 << 40), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["", "\n"]))
def test_every_key_of_a_document_is_found_where_it_was_written(seed, line_end, end):
    written = Writer(seed)
    text = ("\n".join(written.lines) + end).replace("\n", line_end)
    parse(text)  # a document that was written wrongly would prove nothing
    assert key_lines(text) == written.expected
