from pathlib import Path

import pytest

from tidegate.definitions import DefinitionError, find_files, in_order, parse

METRIC = "kind: metric\nkey: signups\nspec: {type: count}\n"


def test_the_documents_of_a_file_are_numbered_and_empty_ones_skipped() -> None:
    documents = parse(f"{METRIC}---\n---\nkind: flags\nkey: dark\nspec: {{on: 1}}\n", "a.yaml")
    assert [(d.kind, d.key, d.number, d.path) for d in documents] == [
        ("metric", "signups", 1, "metrics"),
        ("flag", "dark", 3, "flags"),
    ]


def test_on_off_yes_and_no_are_texts_as_variants_are_called_that() -> None:
    (document,) = parse("kind: flag\nkey: dark\nspec:\n  off: no\n  on: yes\n  enabled: true\n", "a.yaml")
    assert document.spec == {"off": "no", "on": "yes", "enabled": True}


def test_dates_stay_texts() -> None:
    (document,) = parse("kind: metric\nkey: m\nspec: {since: 2026-01-02, at: 2026-01-02T03:04:05Z}\n", "a.yaml")
    assert document.spec == {"since": "2026-01-02", "at": "2026-01-02T03:04:05Z"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("kind: [", "a.yaml is not valid YAML"),
        ("- 1", "document 1 must be a mapping"),
        ("kind: metrik\nkey: x\nspec: {}", "kind must be one of metric, .* not 'metrik'"),
        ("kind: [metric]\nkey: x\nspec: {}", "kind must be one of"),
        ("kind: metric\nkey: 7\nspec: {}", "key must be a text, not 7"),
        ("kind: metric\nkey: ''\nspec: {}", "key must be a text"),
        ("kind: metric\nkey: x", r"\(metric x\): spec must be a mapping"),
        ("kind: metric\nkey: x\nspecs: {}\nspec: {}", "has specs beside"),
        ("kind: metric\nkey: x\nspec: {a: {1: b}}", r"spec\.a has the key 1"),
        ("kind: metric\nkey: x\nspec: {a: [.nan]}", r"spec\.a\[0\] is nan"),
        ("kind: metric\nkey: x\nspec: {a: !!binary aGk=}", r"spec\.a is a bytes"),
        (f"{METRIC}---\nkind: metric\nkey: y\n", "document 2"),
        ("kind: metric\nkey: x\nspec: &a {b: *a}", "deeper than 64"),
        (f"kind: metric\nkey: x\nspec: {{a: {'[' * 100}{']' * 100}}}", "deeper than 64"),
        (f"kind: metric\nkey: x\nspec: {{a: {'[' * 5_000}{']' * 5_000}}}", "nested too deeply"),
        ('kind: metric\nkey: "\\ud800"\nspec: {}', "key holds half of a surrogate pair"),
        ('kind: metric\nkey: x\nspec: {a: ["\\ud800"]}', r"spec\.a\[0\] holds half of a surrogate pair"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_file_document_and_place(text: str, says: str) -> None:
    with pytest.raises(DefinitionError, match=says):
        parse(text, "a.yaml")


def test_metrics_go_before_what_refers_to_them_and_otherwise_the_written_order_stays() -> None:
    text = "---\n".join(
        f"kind: {kind}\nkey: {key}\nspec: {{}}\n"
        for kind, key in [("rule", "r"), ("metric", "b"), ("flag", "f"), ("metric", "a")]
    )
    assert [d.key for d in in_order(parse(text, "a.yaml"))] == ["b", "a", "f", "r"]


def test_the_same_thing_defined_twice_is_refused_naming_both_places() -> None:
    with pytest.raises(DefinitionError, match=r"b\.yaml document 1 .* a\.yaml document 1"):
        in_order([*parse(METRIC, "a.yaml"), *parse(METRIC, "b.yaml")])


def test_a_directory_gives_its_definition_files_sorted_whatever_their_depth(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("z.yaml", "a.yml", "deep/m.json", "readme.md"):
        (tmp_path / name).touch()
    names = [str(path.relative_to(tmp_path)) for path in find_files(tmp_path)]
    assert names == ["a.yml", "deep/m.json", "z.yaml"]


def test_an_empty_directory_or_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DefinitionError, match="holds no"):
        find_files(tmp_path)
    with pytest.raises(DefinitionError, match="does not exist"):
        find_files(tmp_path / "nothing.yaml")


TEXT = """\
# a comment
kind: metric
key: m
spec:
  type: survey
  questions:
    a.b: {min: 1,
      max: 5}
  filter:
    all:
      - path: properties.a
        op: eq
      - {not: {path: x}}
"""


@pytest.mark.parametrize(
    ("place", "line"),
    [
        ("key", 3),
        ("spec", 4),
        ("spec.type", 5),
        ("spec.questions.a.b", 7),
        ("spec.questions.a.b.max", 8),
        ("spec.questions.a.b.nps", 7),
        ("spec.filter.all[0].op", 12),
        ("spec.filter.all[0].value", 11),
        ("spec.filter.all[1].not.path", 13),
        ("spec.group_by[3]", 4),
        ("spec.of", 4),
        ("elsewhere", 2),
    ],
)
def test_a_place_has_its_line_or_that_of_what_it_should_stand_in(place: str, line: int) -> None:
    (document,) = parse(TEXT, "metrics.yaml")
    assert document.line_of(place) == line


def test_lines_go_on_from_document_to_document() -> None:
    documents = parse(f"---\n{TEXT}---\n{TEXT}", "metrics.yaml")
    assert [document.line_of("spec.type") for document in documents] == [6, 20]
