"""Shares of traffic as people announce them, checked and resolved to variants."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from services.assignment.domain.bucketing import BUCKETS
from services.assignment.domain.experiment import MAX_STRATA, Definition, Shares, Stratum, Variant
from services.assignment.domain.lifecycle import Refusal, Refused
from shared import messages


def resolve(shares: Shares, variants: Sequence[Variant]) -> dict[str, int] | Refused:
    """Shares by variant name, in order of the variants, from shares by name or type (any case)."""
    found: dict[str, int] = {}
    for given, buckets in shares.items():
        named = [v for v in variants if v.name.casefold() == given.casefold()]
        matches = named or [v for v in variants if v.type == given.casefold()]
        if len(matches) != 1 or matches[0].name in found:
            fault = "no variant" if not matches else "more than one variant"
            return Refused(Refusal.SPLIT_MISMATCH, f"traffic_split names {given!r}, which fits {fault}")
        found[matches[0].name] = buckets
    missing = [v.name for v in variants if v.name not in found]
    if missing:
        return Refused(Refusal.SPLIT_MISMATCH, f"traffic_split leaves out {', '.join(map(repr, missing))}")
    return check_sum({v.name: found[v.name] for v in variants})


def check_sum(shares: dict[str, int]) -> dict[str, int] | Refused:
    """The same shares if they make up 100 %."""
    total = sum(shares.values())
    if total != BUCKETS:
        return Refused(
            Refusal.NOT_100_PERCENT,
            f"check that traffic percentages sum to 100%: they sum to {total * 100 / BUCKETS:.10g}%",
        )
    return shares


def allocation_of(definition: Definition) -> messages.Allocation | Refused:
    """The split that the definition asks for, complete, or why it asks for none."""
    shares = check_sum({v.name: v.buckets for v in definition.variants})
    if isinstance(shares, Refused):
        return shares
    strata: list[messages.Stratum] = []
    for stratum in definition.strata:
        own = shares if stratum.shares is None else resolve(stratum.shares, definition.variants)
        if isinstance(own, Refused):
            return Refused(own.reason, f"stratum {stratum.name!r}: {own.detail}")
        strata.append(messages.Stratum(name=stratum.name, below=stratum.bound, buckets=own))
    return messages.Allocation(buckets=shares, strata=tuple(strata))


def check_strata(stratify_by: str | None, strata: Sequence[Stratum]) -> Refused | None:
    """None if every number falls in exactly one stratum."""

    def refused(detail: str) -> Refused:
        return Refused(Refusal.BAD_STRATA, detail)

    if bool(strata) != (stratify_by is not None):
        return refused("stratify_by and strata need each other")
    if not strata:
        return None
    if len(strata) > MAX_STRATA:
        return refused(f"at most {MAX_STRATA} strata")
    if len({s.name for s in strata}) < len(strata):
        return refused("strata need different names")
    if any(s.below is not None and s.up_to is not None for s in strata):
        return refused("a stratum ends `below` a number or `up_to` and including it, not both")
    bounds = [s.bound for s in strata]
    if bounds[-1] is not None:
        return refused("the last stratum takes what is left: it has no bound")
    upper = [b for b in bounds if b is not None]
    if len(upper) < len(bounds) - 1 or any(a >= b for a, b in pairwise(upper)):
        return refused("every stratum but the last needs a bound above the one before")
    return None


def planned_share(plan: Shares, variant: Variant) -> int | None:
    by_name = {name.casefold(): buckets for name, buckets in plan.items()}
    return by_name.get(variant.name.casefold(), by_name.get(variant.type))
