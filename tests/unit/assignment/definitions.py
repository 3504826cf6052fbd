"""Experiments to test with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.assignment.domain.changes import act
from services.assignment.domain.experiment import Definition, Stratum, Variant
from services.assignment.domain.lifecycle import Action, Refused


def variants(*buckets: int) -> tuple[Variant, ...]:
    names = ("realtime", "background", "third")
    return tuple(Variant(names[i], "control" if i == 0 else "treatment", b, id=10 + i) for i, b in enumerate(buckets))


def draft(**fields: Any) -> Definition:
    base = Definition(
        organisation="default",
        key="imports",
        name="Imports",
        salt="imports",
        variants=variants(500_000, 500_000),
        id=1,
        version=1,
        created_at=1,
        updated_at=1,
    )
    return replace(base, **fields)


def running(**fields: Any) -> Definition:
    return accepted(act(draft(**fields), Action.START, 100))


def accepted(outcome: Definition | Refused) -> Definition:
    assert isinstance(outcome, Definition), outcome
    return outcome


def refused(outcome: Definition | Refused) -> Refused:
    assert isinstance(outcome, Refused), outcome
    return outcome


S0_STRATA = (
    Stratum("<2 min", below=120_000),
    Stratum("2-5 min", up_to=300_000),
    Stratum(">5 min", shares={"background": 550_000, "realtime": 450_000}),
)
