"""Red here means a template is not found, misread, or a user's own one is passed over."""

import json

import pytest

from mm1cli.errors import UsageError
from mm1cli.tables import templates

OWN = '+++\ndescription = "Mine."\nschema = "when date"\n+++\nWhen was {{ask}} built?\n'


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.setattr(templates, "folder", lambda: tmp_path / "templates")
    (tmp_path / "templates").mkdir()
    return tmp_path / "templates"


def test_the_templates_that_come_with_the_program(own):
    """Red: a template of the README is missing, or one of them is not valid."""
    found = {one.name: one for one in templates.listed()}
    assert set(found) == {"compare", "contracts", "contradictions", "summary", "timeline"}
    assert all(one.description and one.origin == templates.BUILT_IN for one in found.values())
    assert len(found["contracts"].columns) == 6


def test_a_copy_can_be_changed_and_takes_the_place_of_the_original(mm1, own):
    """Red: people cannot make a template their own."""
    ran = mm1("templates", "show", "compare")
    assert ran.code == 0 and ran.out == templates.load("compare").content
    (own / "compare.md").write_text(ran.out.replace("Several documents", "My documents"))
    (own / "built.md").write_text(OWN)
    listed = mm1("templates", "list")
    assert "My documents" in listed.out and str(own / "compare.md") in listed.out
    assert templates.load("built").questions(["the bridge"]) == ["When was the bridge built?"]
    assert templates.load(str(own / "built.md")).schema == "when date"
    told = json.loads(mm1("templates", "list", "--json").out)
    assert {"name": "built", "description": "Mine.", "kind": "answer"}.items() <= told[0].items()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("+++\nkind = 'table'\n+++\nx", "columns"),
        ("+++\nkind = 'tables'\n+++\nx", "kind is one of"),
        ("+++\ncolumn = 1\n+++\nx", "no such key"),
        ("+++\nlimit = true\n+++\nx", "limit"),
        ("+++\nkind = \n+++\nx", "not TOML"),
        ("+++\nx", "does not end"),
        ("+++\nlimit = 3\n+++\n\n", "no question"),
        ("+++\ndescription = 3\n+++\nx", "texts"),
    ],
)
def test_a_mistake_in_a_template_is_told_in_one_line(tmp_path, content, complaint):
    """Red: a slip in a file ends in a traceback, or is passed over."""
    path = tmp_path / "mine.md"
    path.write_text(content)
    with pytest.raises(UsageError, match=complaint) as caught:
        templates.load(str(path))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_name_that_is_none_is_near_another(own):
    """Red: people do not learn what there is."""
    with pytest.raises(UsageError, match="did you mean compare"):
        templates.load("compar")
    with pytest.raises(UsageError, match="there are compare, "):
        templates.load("zzz")


def test_columns_of_ones_own():
    """Red: --ask does not change what a comparison compares."""
    compare = templates.load("compare")
    assert list(compare.aspects([])) == ["Aim", "Approach", "Result", "Limits"]
    assert compare.aspects(["cost"]) == {"cost": "What does it say about cost?"}


@pytest.mark.parametrize("schema", ["/etc/hosts.json", "../secret.json"])
def test_a_template_of_a_folder_names_no_schema_outside_it(tmp_path, schema):
    """Red: a repository's template has files of its reader opened."""
    path = tmp_path / "t.md"
    path.write_text(f'+++\nschema = "{schema}"\n+++\nwhat?\n')
    with pytest.raises(UsageError, match="leads out of"):
        templates.load(str(path))
    path.write_text('+++\nschema = "a, b int"\n+++\nwhat?\n')
    assert templates.load(str(path)).schema == "a, b int"
