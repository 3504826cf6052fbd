"""Definitions and answers, as the API's documentation shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FAILED = {"path": "properties.finalStatus", "op": "eq", "value": "failed"}

EXAMPLES: Mapping[str, Mapping[str, Any]] = {
    "count": {"value": {"type": "count", "event": "click", "group_by": ["properties.page"]}},
    "value": {
        "summary": "How long imports took, in minutes",
        "description": "`value` is a path or an expression. Percentiles (`p95`) and shares under or over a limit "
        "(`share<=5`) are counted from when they stand in `aggregations`; the others can always be read.",
        "value": {
            "type": "value",
            "event": "data_import_completed",
            "value": "properties.totalDuration / 1000 / 60",
            "aggregations": ["avg", "p95", "share<=5"],
        },
    },
    "ratio": {
        "summary": "Share of imports that failed",
        "value": {
            "type": "ratio",
            "numerator": {"event": "data_import_completed", "filter": _FAILED},
            "denominator": {"event": "data_import_completed"},
        },
    },
    "unique": {
        "summary": "How many users import",
        "description": "Exact up to `exact_up_to` different values a window and partition (default 10000), beyond it "
        "a HyperLogLog with a standard error of 0.8 %, which the reading states.",
        "value": {"type": "unique", "event": "data_import_completed", "of": "user_id"},
    },
    "breakdown": {
        "summary": "What imports fail of",
        "description": "`of` leads to a text, an array of texts (also as JSON text), or with `[].` to a field of "
        "each object in an array.",
        "value": {
            "type": "breakdown",
            "event": "data_import_completed",
            "of": "properties.errorCategories",
            "aggregations": ["count", "share", "trend"],
        },
    },
    "survey": {
        "summary": "What users answered",
        "description": "A question reads `properties.<its name>` unless it has a `value`. Answers outside `min` to "
        "`max` are invalid. `nps: true` is a scale from 0 to 10.",
        "value": {
            "type": "survey",
            "event": "satisfaction_survey_completed",
            "questions": {
                "overall_rating": {"min": 1, "max": 5},
                "likelihood_to_recommend": {"nps": True},
            },
        },
    },
    "streak": {
        "summary": "Consecutive failures, for a breaker",
        "description": "Failures after the latest success, over all partitions. Without `success`, an event that "
        "matches and is no failure is a success. `length` (1 to 100, default 20) is how many are kept.",
        "value": {"type": "streak", "event": "data_import_completed", "failure": _FAILED, "length": 20},
    },
    "journey": {
        "summary": "What became of each import",
        "description": "One journey a unit, counted in the minute of its earliest start: completed (whenever that "
        "comes), abandoned_after_navigation (navigated, and dead or the timeout has passed), abandoned_timeout, or "
        "in_progress. `navigate`, `dead` and `steps` are optional; `timeout` is seconds, or text such as 90s, 30m "
        "or 2h (default 1800s). `group_by` is read from the start.",
        "value": {
            "type": "journey",
            "unit": "job",
            "start": {"event": "background_import_started"},
            "navigate": {
                "event": "background_import_engagement",
                "filter": {"path": "properties.userAction", "op": "eq", "value": "navigate_away"},
            },
            "dead": {"event": "background_import_cancelled"},
            "complete": {"event": "data_import_completed"},
            "steps": [{"name": "reviewed", "event": "field_mapping_review_completed"}],
            "timeout": "1800s",
            "group_by": ["properties.variant"],
        },
    },
    "funnel": {
        "summary": "How far import sessions come",
        "description": "Each stage after the one before, within `window` of the first. `drop_off` tells why units "
        "that did not get to the end left off.",
        "value": {
            "type": "funnel",
            "unit": "session",
            "stages": [
                {"name": "started", "event": "migration_session_started"},
                {"name": "uploaded", "event": "file_upload_completed"},
                {"name": "analyzed", "event": "ai_analysis_completed"},
                {"name": "completed", "event": "data_import_completed"},
            ],
            "window": "24h",
            "drop_off": {"event": "import_error", "reason": "properties.errorCode"},
        },
    },
    "latest": {
        "summary": "Hours until tickets are resolved, each ticket once",
        "description": "Each unit counts once, when it began, by the latest state that events told of it: sending a "
        "state again changes nothing, a later one takes its place. Of two states that with the higher `order` is the "
        "later one.",
        "value": {
            "type": "latest",
            "unit": "properties.ticketId",
            "event": ["support_ticket", "support_ticket_created", "support_ticket_resolved"],
            "begin": "properties.created_at",
            "order": "properties.updated_at",
            "value": "seconds_between(properties.created_at, properties.resolved_at) / 3600",
            "aggregations": ["count", "avg", "p50", "share<=24"],
            "group_by": ["properties.category"],
        },
    },
}
"""Of definitions, one of each type."""

_WINDOW = {
    "metric_name": "import_errors",
    "time_window": "1h",
    "window_start": "2026-03-02T12:00:00Z",
    "window_end": "2026-03-02T13:00:00Z",
}
READINGS: Mapping[str, Mapping[str, Any]] = {
    "breakdown": {
        "summary": "A category's change against the window before",
        "value": [
            {
                **_WINDOW,
                "aggregation_type": "trend",
                "metric_value": 0.25,
                "count": 15,
                "group": {},
                "part": "format",
                "trend": "increasing",
                "closed": True,
            }
        ],
    },
    "percentile": {
        "summary": "A percentile of one group, within 1 % of a value that was there",
        "value": [
            {
                **_WINDOW,
                "metric_name": "import_minutes",
                "aggregation_type": "p95",
                "metric_value": 7.42,
                "count": 312,
                "group": {"context.networkType": "wifi"},
                "error": 0.01,
                "closed": True,
            }
        ],
    },
    "variant": {
        "summary": "A variant's totals, with `experiment`",
        "value": [
            {
                "metric_name": "revenue",
                "time_window": "total",
                "window_start": None,
                "window_end": None,
                "experiment": "checkout",
                "variant": "control",
                "component": "value",
                "part": None,
                "segment": None,
                "count": 3,
                "sum": 60.0,
                "mean": 20.0,
                "min": 10.0,
                "max": 30.0,
                "variance": 100.0,
                "includes_conflicted": True,
                "exposed": 40,
                "conflicted": 0,
                "units": 2,
                "unit_sum": 60.0,
                "unit_mean": 30.0,
                "unit_variance": 200.0,
            }
        ],
    },
    "state": {
        "summary": "A variant's journeys that are completed, with `experiment`; durations in milliseconds",
        "value": [
            {
                "metric_name": "imports",
                "time_window": "total",
                "window_start": None,
                "window_end": None,
                "experiment": "import-mode",
                "variant": "background",
                "part": "completed",
                "segment": None,
                "count": 507,
                "share": 0.966,
                "mean": 332.2,
                "variance": 1204.5,
                "includes_conflicted": False,
                "conflicted": 0,
            }
        ],
    },
    "reading": {
        "summary": "A funnel's conversion by variant, with `experiment`",
        "value": [
            {
                "metric_name": "import_funnel",
                "time_window": "total",
                "window_start": None,
                "window_end": None,
                "experiment": "import-mode",
                "variant": "background",
                "segment": None,
                "part": None,
                "aggregation_type": "conversion:uploaded",
                "metric_value": 0.75,
                "count": 512,
                "includes_conflicted": False,
                "conflicted": 0,
            }
        ],
    },
}

_TOTALS = {"counted": 8, "late": 0, "duplicates": 1, "invalid": 0, "overflow": 0, "amended": 0}
COUNTED: Mapping[str, Mapping[str, Any]] = {
    "count": {
        "value": {
            "metric_name": "clicks",
            "version": 1,
            "spec": EXAMPLES["count"]["value"],
            "totals": _TOTALS,
            "components": {"value": _TOTALS},
        },
    },
}


def answers(examples: Mapping[str, Mapping[str, Any]]) -> dict[int | str, dict[str, Any]]:
    """What a route answers if all is well, for its documentation."""
    shown = {name: dict(example) for name, example in examples.items()}
    return {200: {"content": {"application/json": {"examples": shown}}}}
