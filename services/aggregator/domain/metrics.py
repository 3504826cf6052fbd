"""Metric definitions: what users write (YAML or JSON), checked and turned into what the fold and the readers need."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from services.aggregator.domain.kinds.breakdown import parse_breakdown
from services.aggregator.domain.kinds.funnel import parse_funnel
from services.aggregator.domain.kinds.journey import parse_journey
from services.aggregator.domain.kinds.kind import Windowed
from services.aggregator.domain.kinds.latest import parse_latest
from services.aggregator.domain.kinds.measured import parse_count, parse_ratio, parse_value
from services.aggregator.domain.kinds.streak import Streak, parse_streak
from services.aggregator.domain.kinds.survey import parse_survey
from services.aggregator.domain.kinds.unique import parse_unique
from services.aggregator.domain.paths import Path
from services.aggregator.domain.specs import DEFAULT_MAX_GROUPS, parse_group_by, parse_max_groups
from shared.definition_error import DefinitionError

Kind = Windowed | Streak

KINDS: dict[str, Callable[[Mapping[str, Any]], Kind]] = {
    "count": parse_count,
    "value": parse_value,
    "ratio": parse_ratio,
    "unique": parse_unique,
    "breakdown": parse_breakdown,
    "survey": parse_survey,
    "streak": parse_streak,
    "journey": parse_journey,
    "funnel": parse_funnel,
    "latest": parse_latest,
}
"""Type → how the rest of the spec is read. Each raises DefinitionError."""

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}")


@dataclass(frozen=True, slots=True)
class Definition:
    """A checked metric definition of one version."""

    organisation: str
    key: str
    version: int
    kind: Kind
    group_by: tuple[Path, ...]
    max_groups: int = DEFAULT_MAX_GROUPS
    """Of a shard and UTC day; what comes more is counted as "other"."""


def parse_definition(organisation: str, key: str, version: int, spec: object) -> Definition:
    """Checks `spec` and returns what it means. Raises DefinitionError, which names the faulty place."""
    if not _KEY.fullmatch(key):
        raise DefinitionError(
            "key", "1 to 128 letters, digits, '_', '.', ':' or '-', starting with a letter or digit"
        )
    if not isinstance(spec, Mapping):
        raise DefinitionError("spec", "must be an object")
    kind = spec.get("type")
    parse = KINDS.get(kind) if isinstance(kind, str) else None
    if parse is None:
        *names, last = KINDS
        raise DefinitionError("spec.type", f"must be {', '.join(names)} or {last}")
    return Definition(
        organisation, key, version, parse(spec), parse_group_by(spec.get("group_by", ())), parse_max_groups(spec)
    )


def canonical(spec: Any) -> Any:
    """The spec without noise of notation: equal meaning in the ways users vary gives equal values."""
    if isinstance(spec, Mapping):
        return {k: canonical(v) for k, v in sorted(spec.items()) if v is not None and k != "description"}
    if isinstance(spec, list | tuple):
        return [canonical(v) for v in spec]
    if isinstance(spec, bool):
        return "true" if spec else "false", bool  # true is not 1, though Python says so
    return spec
