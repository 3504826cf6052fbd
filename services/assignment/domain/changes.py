"""Every change that may be made to an experiment: values in, a new definition or a refusal out."""

from __future__ import annotations

from dataclasses import dataclass, replace

from services.assignment.domain.bucketing import BUCKETS
from services.assignment.domain.experiment import MAX_SPLITS, MAX_VARIANTS, Definition, Shares, Stratum, Variant
from services.assignment.domain.lifecycle import ENDED, Action, Refusal, Refused, Status, after
from services.assignment.domain.shares import allocation_of, check_strata, check_sum, planned_share, resolve
from shared import messages


@dataclass(frozen=True, slots=True)
class Patch:
    """Fields to change; None leaves a field as it is."""

    name: str | None = None
    description: str | None = None
    unit: messages.UnitKind | None = None
    metrics: tuple[str, ...] | None = None
    segments: tuple[str, ...] | None = None
    plan: Shares | None = None
    stratify_by: str | None = None
    strata: tuple[Stratum, ...] | None = None


def new(definition: Definition) -> Definition | Refused:
    """A fresh draft, checked as far as a draft can be."""
    fault = check_strata(definition.stratify_by, definition.strata)
    if fault is not None:
        return fault
    for shares in (definition.plan, *(s.shares for s in definition.strata)):
        summed = None if shares is None else check_sum(dict(shares))
        if isinstance(summed, Refused):
            return summed
    return definition


def with_variant(definition: Definition, variant: Variant, *, share_given: bool) -> Definition | Refused:
    """Adds a variant to a draft. Without a share of its own it takes the planned one."""
    if definition.status is not Status.DRAFT:
        return Refused(Refusal.VARIANTS_FIXED, "variants can be added to a DRAFT only: units have been assigned")
    if any(v.name.casefold() == variant.name.casefold() for v in definition.variants):
        return Refused(Refusal.VARIANT_TAKEN, f"there is a variant {variant.name!r} already")
    if len(definition.variants) >= MAX_VARIANTS:
        return Refused(Refusal.TOO_MANY_VARIANTS, f"at most {MAX_VARIANTS} variants")
    planned = planned_share(definition.plan or {}, variant)
    if not share_given:
        if planned is None:
            return Refused(Refusal.PERCENTAGE_MISSING, "send traffic_percentage: no traffic_split names this variant")
        variant = replace(variant, buckets=planned)
    elif planned is not None and variant.buckets != planned:
        return Refused(
            Refusal.SPLIT_MISMATCH,
            f"traffic_split plans {planned * 100 / BUCKETS:.10g}% for {variant.name!r}, "
            f"not {variant.buckets * 100 / BUCKETS:.10g}%",
        )
    return replace(definition, variants=(*definition.variants, variant))


def with_patch(definition: Definition, patch: Patch) -> Definition | Refused:
    """The definition after a change. A running experiment's units keep their variants, see `allocations`."""
    changed = replace(
        definition,
        name=definition.name if patch.name is None else patch.name,
        description=definition.description if patch.description is None else patch.description,
    )
    if definition.status in ENDED:
        beyond = replace(patch, name=None, description=None) != Patch()
        return _ended(definition) if beyond else changed
    changed = replace(
        changed,
        unit=definition.unit if patch.unit is None else patch.unit,
        metrics=definition.metrics if patch.metrics is None else patch.metrics,
        segments=definition.segments if patch.segments is None else patch.segments,
        strata=definition.strata if patch.strata is None else patch.strata,
        stratify_by=definition.stratify_by if patch.stratify_by is None else patch.stratify_by,
    )
    if patch.strata == ():
        changed = replace(changed, stratify_by=None)
    if patch.plan is not None:
        with_plan = _with_plan(changed, patch.plan)
        if isinstance(with_plan, Refused):
            return with_plan
        changed = with_plan
    return _checked(definition, changed)


def _with_plan(definition: Definition, plan: Shares) -> Definition | Refused:
    if definition.status is Status.DRAFT:
        summed = check_sum(dict(plan))
        if isinstance(summed, Refused):
            return summed
        shares = {v.name: planned_share(plan, v) for v in definition.variants}
    else:
        resolved = resolve(plan, definition.variants)
        if isinstance(resolved, Refused):
            return resolved
        shares = {**resolved}
    variants = tuple(replace(v, buckets=_or(shares[v.name], v.buckets)) for v in definition.variants)
    return replace(definition, plan=dict(plan), variants=variants)


def _or(value: int | None, otherwise: int) -> int:
    return otherwise if value is None else value


def with_spec(existing: Definition, wanted: Definition) -> Definition | Refused:
    """`existing` made to say what `wanted` says, its identity and history kept."""
    ids = {v.name.casefold(): v.id for v in existing.variants}
    changed = replace(
        existing,
        name=wanted.name,
        description=wanted.description,
        unit=wanted.unit,
        salt=wanted.salt,
        metrics=wanted.metrics,
        segments=wanted.segments,
        stratify_by=wanted.stratify_by,
        strata=wanted.strata,
        variants=tuple(replace(v, id=ids.get(v.name.casefold())) for v in wanted.variants),
    )
    if changed != existing and existing.status in ENDED:
        return _ended(existing)
    return changed if changed == existing else _checked(existing, replace(changed, plan=None))


def _checked(before: Definition, changed: Definition) -> Definition | Refused:
    """What must hold for any change of an experiment that has not ended."""
    fault = check_strata(changed.stratify_by, changed.strata)
    if fault is not None:
        return fault
    if before.status is Status.DRAFT:
        return changed
    for name in ("unit", "salt", "stratify_by", "segments"):
        if getattr(before, name) != getattr(changed, name):
            return Refused(Refusal.FIXED_ONCE_STARTED, f"{name} is fixed once an experiment has started")
    if [(v.name, v.type) for v in before.variants] != [(v.name, v.type) for v in changed.variants]:
        return Refused(Refusal.VARIANTS_FIXED, "names, types and order of variants are fixed once it has started")
    return _with_present_allocation(changed)


def _with_present_allocation(definition: Definition) -> Definition | Refused:
    present = allocation_of(definition)
    if isinstance(present, Refused):
        return present
    history = (*(a for a in definition.allocations if a != present), present)
    if len(history) > MAX_SPLITS:
        return Refused(Refusal.TOO_MANY_SPLITS, f"an experiment can have at most {MAX_SPLITS} different splits")
    return replace(definition, allocations=history)


def _ended(definition: Definition) -> Refused:
    return Refused(Refusal.ENDED, f"the experiment is {definition.status.value.upper()}: only its texts can change")


def start_fault(definition: Definition) -> Refused | None:
    """Why the variants do not make an experiment, or None."""
    if len(definition.variants) < 2:
        return Refused(Refusal.TOO_FEW_VARIANTS, "ensure at least 2 variants are configured")
    controls = [v.name for v in definition.variants if v.type == "control"]
    if not controls:
        return Refused(Refusal.CONTROL_MISSING, "exactly one variant must be the control; there is none")
    if len(controls) > 1:
        return Refused(Refusal.SEVERAL_CONTROLS, f"exactly one variant must be the control; {', '.join(controls)}")
    for given, planned in (definition.plan or {}).items():
        named = [v for v in definition.variants if v.name.casefold() == given.casefold()]
        meant = named or [v for v in definition.variants if v.type == given.casefold()]
        total = sum(v.buckets for v in meant)
        if total != planned:
            return Refused(
                Refusal.SPLIT_MISMATCH,
                f"traffic_split plans {planned * 100 / BUCKETS:.10g}% for {given!r}, "
                f"its variants have {total * 100 / BUCKETS:.10g}%",
            )
    return None


def act(definition: Definition, action: Action, now: int) -> Definition | Refused:
    """Takes one step of the lifecycle at time `now` (µs)."""
    status = after(action, definition.status)
    if isinstance(status, Refused):
        return status
    moved = replace(definition, status=status)
    if status is Status.RUNNING:
        fault = start_fault(definition)
        if fault is not None:
            return fault
        return _with_present_allocation(replace(moved, started_at=definition.started_at or now))
    if status in ENDED and definition.ended_at is None:
        return replace(moved, ended_at=now)
    return moved
