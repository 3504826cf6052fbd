"""The JSON Schema of metric definitions: what can be said in one; `parse_definition` has the last word.

What a schema cannot say is left to the parser: the grammar of expressions, names that refer to each other, limits of
depth. Whatever the parser accepts, the schema accepts. `python -m services.aggregator.domain.schema` prints it.
"""

from __future__ import annotations

import json
from typing import Any

from services.aggregator.domain.filters import MAX_CONDITIONS
from services.aggregator.domain.kinds import breakdown, by_unit, funnel, journey, related, streak, survey, unique
from services.aggregator.domain.kinds.kind import MOMENTS
from services.aggregator.domain.kinds.measured import SIMPLE_AGGREGATIONS
from services.aggregator.domain.specs import DEFAULT_MAX_GROUPS, MOST_AGGREGATIONS, MOST_GROUPS
from shared.statistics.distinct import MAX_EXACT

Json = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"
PERCENTILE = r"^p[0-9]{1,2}(\.[0-9]{1,2})?$"
SHARE = r"^share(<=|<|>=|>)-?[0-9]{1,18}(\.[0-9]{1,9})?$"
NAME = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$"
_SPAN = r"^[0-9]{1,9}(\.[0-9]{1,6})?\s*[smhd]$"


def _ref(name: str) -> Json:
    return {"$ref": f"#/$defs/{name}"}


def _objects(properties: Json, *required: str, **more: Any) -> Json:
    return {
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        **({"required": list(required)} if required else {}),
        **more,
    }


def _listed(item: Json, least: int = 1, most: int | None = None) -> Json:
    return {"type": "array", "items": item, "minItems": least, **({} if most is None else {"maxItems": most})}


def _aggregations(*names: str, patterns: tuple[str, ...] = ()) -> Json:
    one: Json = {"enum": list(names)}
    if patterns:
        one = {"anyOf": [one, *({"type": "string", "pattern": pattern} for pattern in patterns)]}
    return {
        "description": "What is read unless something else is asked for.",
        "anyOf": [one, _listed(one, 1, MOST_AGGREGATIONS)],
    }


def _nullable(schema: Json) -> Json:
    return {"anyOf": [schema, {"type": "null"}]}


_TAKES: Json = {"event": _ref("event"), "filter": _nullable(_ref("filter"))}
_STAGE: Json = {"anyOf": [{"required": ["event"]}, {"required": ["filter"]}]}
_NAMED = _objects({**_TAKES, "name": _ref("name")}, "name", **_STAGE)
_PART = _objects({**_TAKES, "value": _nullable(_ref("value"))})
_TIMES: Json = {"begin": _nullable(_ref("value")), "order": _nullable(_ref("value"))}
_SCALE: Json = {"type": "integer", "minimum": 0, "maximum": 9, "description": "Decimal places that are kept: 6."}
_BY_UNIT: Json = {
    "winsorise": _nullable(
        _objects({"lower": _nullable({"type": "number"}), "upper": _nullable({"type": "number"})}, minProperties=1)
    ),
    "covariate_days": _nullable({"type": "integer", "minimum": 0, "maximum": by_unit.MAX_COVARIATE_DAYS}),
}

_DEFS: Json = {
    "path": {
        "type": "string",
        "maxLength": 200,
        "description": "A field of the event (user_id, event_type …), or properties.… or context.…",
    },
    "value": {
        "type": "string",
        "maxLength": 500,
        "description": "A path, or an expression such as properties.failed / properties.all.",
    },
    "event": {
        "description": "Event types; absent: all.",
        "anyOf": [{"type": "string", "minLength": 1}, _listed({"type": "string", "minLength": 1}), {"type": "null"}],
    },
    "name": {"type": "string", "pattern": NAME},
    "span": {
        "description": "Seconds, or text such as 90s, 30m, 2h or 1d.",
        "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": _SPAN}],
    },
    "scalar": {"type": ["string", "number", "boolean"]},
    "filter": {
        "type": "object",
        "anyOf": [
            _objects({"all": _listed(_ref("filter"), 1, MAX_CONDITIONS)}, "all"),
            _objects({"any": _listed(_ref("filter"), 1, MAX_CONDITIONS)}, "any"),
            _objects({"not": _ref("filter")}, "not"),
            _objects({"expression": _ref("value")}, "expression"),
            _objects(
                {
                    "path": _ref("path"),
                    "op": {"enum": ["eq", "ne", "lt", "le", "gt", "ge"]},
                    "value": _ref("scalar"),
                },
                "path",
                "value",
            ),
            _objects(
                {"path": _ref("path"), "op": {"const": "in"}, "value": {"type": "array", "items": _ref("scalar")}},
                "path",
                "op",
                "value",
            ),
            _objects(
                {"path": _ref("path"), "op": {"const": "exists"}, "value": {"type": ["boolean", "null"]}},
                "path",
                "op",
            ),
        ],
    },
    "condition": {
        "type": "object",
        "anyOf": [
            _objects(
                {
                    "reached": {"type": "string"},
                    "within": _nullable(_ref("span")),
                    "of": {"type": ["string", "null"]},
                },
                "reached",
            ),
            _objects({"timeout": {"const": True}}, "timeout"),
            _objects({"not": _ref("condition")}, "not"),
            _objects({"all": _listed(_ref("condition"))}, "all"),
            _objects({"any": _listed(_ref("condition"))}, "any"),
        ],
    },
    "unit": {"description": "user, session, job, or a path.", "type": "string"},
    "stage": _objects(_TAKES, **_STAGE),
}

_COMMON: Json = {
    "type": {"type": "string"},
    "description": {},
    "group_by": {
        "description": "Each group of these values is counted apart.",
        "anyOf": [_ref("path"), _listed(_ref("path"), 0, 5)],
    },
    "max_groups": {
        "type": "integer",
        "minimum": 1,
        "maximum": MOST_GROUPS,
        "description": f"Of a partition and day; further groups count as other. {DEFAULT_MAX_GROUPS} unless given.",
    },
}

_QUESTION = _objects(
    {
        "value": _nullable(_ref("value")),
        "min": {"type": ["number", "null"]},
        "max": {"type": ["number", "null"]},
        "nps": {"type": "boolean"},
    }
)
_ANSWERS = tuple(a for a in (*SIMPLE_AGGREGATIONS, *MOMENTS) if a != "sum")

_TYPES: dict[str, tuple[Json, tuple[str, ...]]] = {
    "count": ({**_TAKES, "aggregations": _aggregations("count"), "scale": _SCALE, **_BY_UNIT}, ()),
    "value": (
        {
            **_TAKES,
            "value": _ref("value"),
            "aggregations": _aggregations(*SIMPLE_AGGREGATIONS, *MOMENTS, patterns=(PERCENTILE, SHARE)),
            "scale": _SCALE,
            **_BY_UNIT,
        },
        ("value",),
    ),
    "ratio": (
        {
            "numerator": _PART,
            "denominator": _PART,
            "aggregations": _aggregations("avg", "count"),
            "scale": _SCALE,
        },
        ("numerator", "denominator"),
    ),
    "unique": (
        {
            **_TAKES,
            "of": _ref("value"),
            "exact_up_to": {"type": "integer", "minimum": 0, "maximum": MAX_EXACT},
            "aggregations": _aggregations(*unique.Unique.readable),
        },
        ("of",),
    ),
    "breakdown": (
        {**_TAKES, "of": _ref("value"), "aggregations": _aggregations(*breakdown.Breakdown.readable)},
        ("of",),
    ),
    "survey": (
        {
            **_TAKES,
            "questions": {
                "type": "object",
                "minProperties": 1,
                "maxProperties": survey.MAX_QUESTIONS,
                "patternProperties": {NAME: _nullable(_QUESTION)},
                "additionalProperties": False,
            },
            "aggregations": _aggregations(*_ANSWERS, "nps"),
            "scale": _SCALE,
        },
        ("questions",),
    ),
    "streak": (
        {
            **_TAKES,
            "failure": _ref("filter"),
            "success": _nullable(_ref("filter")),
            "length": {"type": "integer", "minimum": 1, "maximum": streak.MAX_LENGTH},
        },
        ("failure",),
    ),
    "journey": (
        {
            "unit": _ref("unit"),
            "filter": _nullable(_ref("filter")),
            "start": _ref("stage"),
            "complete": _nullable(_ref("stage")),
            "navigate": _nullable(_ref("stage")),
            "dead": _nullable(_ref("stage")),
            "steps": _nullable(_listed(_NAMED, 0, journey.MAX_STEPS)),
            "timeout": _nullable(_ref("span")),
            "outcomes": _nullable(
                _listed(_objects({"name": _ref("name"), "when": _ref("condition")}, "name", "when"), 1)
            ),
            "durations": _nullable(
                _listed(
                    _objects(
                        {
                            "name": _ref("name"),
                            "from": {"type": "string"},
                            "to": {"type": "string"},
                            "percentiles": _listed({"type": "string", "pattern": PERCENTILE}, 0, MOST_AGGREGATIONS),
                        },
                        "name",
                        "to",
                    ),
                    0,
                    journey.MAX_PARTS,
                )
            ),
            "within": _nullable(
                _listed(
                    _objects(
                        {
                            "name": _ref("name"),
                            "step": {"type": "string"},
                            "of": {"type": "string"},
                            "within": _ref("span"),
                            "at_least": {"type": "integer", "minimum": 1, "maximum": related.MAX_AT_LEAST},
                        },
                        "name",
                        "step",
                        "within",
                    ),
                    0,
                    journey.MAX_PARTS,
                )
            ),
            "correlate": _nullable(
                _listed(
                    _objects(
                        {
                            **_TAKES,
                            "name": _ref("name"),
                            "by": _ref("unit"),
                            "within": _ref("span"),
                            "at_least": {"type": "integer", "minimum": 1, "maximum": related.MAX_AT_LEAST},
                            "distinct": _nullable(_ref("path")),
                            "latest": _nullable(_objects(_TIMES)),
                        },
                        "name",
                        "by",
                        "within",
                        **_STAGE,
                    ),
                    0,
                    related.MAX_CORRELATES,
                )
            ),
            "first_attempt": _nullable(_objects({"by": _ref("unit")}, "by")),
        },
        ("unit", "start"),
    ),
    "funnel": (
        {
            "unit": _ref("unit"),
            "filter": _nullable(_ref("filter")),
            "stages": _listed(_NAMED, 2, funnel.MAX_STAGES),
            "window": _nullable(_ref("span")),
            "drop_off": _nullable(_objects({**_TAKES, "reason": _ref("path")}, "reason", **_STAGE)),
        },
        ("unit", "stages"),
    ),
    "latest": (
        {
            "unit": _ref("unit"),
            "event": _ref("event"),
            "filter": _nullable(_ref("filter")),
            **_TIMES,
            "value": _nullable(_ref("value")),
            "scale": _SCALE,
            "aggregations": _aggregations("count", "sum", "avg", *MOMENTS, patterns=(PERCENTILE, SHARE)),
        },
        ("unit", "event"),
    ),
}


def metric_schema() -> Json:
    """The schema of a definition's `spec`."""
    return {
        "$schema": DIALECT,
        "title": "Tidegate metric definition",
        "type": "object",
        "required": ["type"],
        "properties": {"type": {"enum": list(_TYPES)}},
        "allOf": [
            {
                "if": {"properties": {"type": {"const": name}}, "required": ["type"]},
                "then": _objects({**_COMMON, **properties}, *required),
            }
            for name, (properties, required) in _TYPES.items()
        ],
        "$defs": _DEFS,
    }


def as_file() -> str:
    """As it stands in docs/metric.schema.json, for editors."""
    return json.dumps(metric_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    print(as_file(), end="")
