"""The guide to metrics: every definition in it is one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.aggregator.domain.metrics import KINDS, parse_definition
from services.aggregator.domain.operations import COALESCE, FUNCTIONS, IF
from tidegate.definitions import Document, parse

GUIDE = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text(encoding="utf-8")
DOCUMENTS = [
    document
    for number, text in enumerate(re.findall(r"```yaml\n(.*?)```", GUIDE, re.DOTALL), start=1)
    for document in parse(text, f"example {number}")
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.key)
def test_every_example_is_a_definition(document: Document) -> None:
    assert parse_definition("acme", document.key, 1, document.spec).kind.type == document.spec["type"]


def test_the_guide_names_every_type_and_function() -> None:
    headings = " ".join(re.findall(r"^### (.*)$", GUIDE, re.MULTILINE)).split()
    assert set(headings) >= set(KINDS)
    assert all(f"`{name}" in GUIDE or f" `{name}(" in GUIDE for name in (*FUNCTIONS, IF, COALESCE))
