import re
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from edge_agent.config import AgentConfig, live_changes, load
from edge_agent.config.problems import _kind_of, _tables_in
from tests.fixtures import REPO

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TEXT = (REPO / "docs" / "configuration.md").read_text()
SECTION = re.compile(r"(?ms)^### (`\[[^\n]*)\n(.*?)(?=^##)")
ROW = re.compile(r"(?m)^\| `(\w+)` \| (.+?) \| (.+?) \| (.+?) \|$")
KIND = re.compile(r"`(\[.*?\])` with `kind = \"(\w+)\"`")


def _documented():
    """Table, kind (empty for what all kinds have) and key: the default as it is written."""
    keys = {}
    for heading, body in SECTION.findall(TEXT):
        of_kind = KIND.fullmatch(heading)
        table, kind = of_kind.groups() if of_kind else (heading.strip("`"), "")
        rows = ROW.findall(body)
        assert len(rows) == len([line for line in body.split("\n") if line.startswith("| `")]), heading
        keys |= {(table, kind, key): default for key, _, default, _ in rows}
    return keys


def _known(model: type[BaseModel] = AgentConfig, header: str = "", kind: str = ""):
    """The same from the schema: table, kind and key, with the field."""
    for name, field in model.model_fields.items():
        tables = list(_tables_in(field.annotation))
        path = f"{header.strip('[]')}.{name}".lstrip(".")
        inner = f"[[{path}]]" if str(field.annotation).startswith(("tuple[", "typing.Tuple[")) else f"[{path}]"
        for table in tables:
            yield from _known(table, inner, _kind_of(table) or "" if len(tables) > 1 else "")
        if not tables and header:
            yield header, kind, name, field


DOCUMENTED = _documented()
KNOWN = list(_known())


def _written(table, kind, key):
    return DOCUMENTED.get((table, kind, key), DOCUMENTED.get((table, "", key)))


@pytest.mark.parametrize(("table", "kind", "key", "field"), KNOWN, ids=[f"{t} {k} {n}" for t, k, n, _ in KNOWN])
def test_every_key_is_documented_with_its_default(table, kind, key, field):
    written = _written(table, kind, key)
    assert written is not None, f"{table} {kind}: {key} is not in docs/configuration.md"
    if field.is_required() or key == "kind":
        assert written == "required"
    elif field.default is None:
        assert written == "none"
    else:
        default = str(field.default) if isinstance(field.default, Path) else field.default
        assert tomllib.loads(f"x = {written.strip('`')}")["x"] == default


@pytest.mark.parametrize("place", DOCUMENTED, ids=" ".join)
def test_every_documented_key_exists(place):
    table, kind, key = place
    kinds_with_it = {of_kind for of_table, of_kind, name, _ in KNOWN if (of_table, name) == (table, key)}
    kinds = {of_kind for of_table, of_kind, _, _ in KNOWN if of_table == table}
    assert kind in kinds_with_it or (kind == "" and kinds_with_it == kinds)


def test_every_kind_of_a_table_has_a_heading():
    headings = {match.groups() for match in KIND.finditer(TEXT)}
    assert headings == {(table, kind) for table, kind, _, _ in KNOWN if kind}


def test_every_key_has_a_description_in_the_schema():
    assert [(table, key) for table, _, key, field in KNOWN if key != "kind" and not field.description] == []


def test_the_keys_that_the_documentation_calls_live_are_live():
    reload = TEXT[TEXT.index("## Reload") :]
    named = re.findall(r"`((?:model|verdict|log|mqtt)\.\w+)`", reload)
    assert len(named) == 9
    config = load(REPO / "examples" / "tls-broker.toml").config
    for dotted in named:
        table, key = dotted.split(".")
        was = getattr(getattr(config, table), key)
        other = getattr(config, table).model_copy(update={key: was / 2 if isinstance(was, float) else None})
        live, restart = live_changes(config, config.model_copy(update={table: other}))
        assert (live, restart) == ([(table, key)], []), dotted
