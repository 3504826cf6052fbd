"""The queries of the import dashboard, as a team wrote them for a table of events, and the definitions that say them.

`analytics_events(type, metadata, timestamp)` is a view over the raw events. Corrections to the team's SQL, nothing
else: `NOW()` and `CURRENT_DATE` are the moment of the test; ROUND of a float needs a numeric; a division by what may
be an empty count is by NULLIF; durations stay decimal; PERCENTILE_CONT, which puts a value between two neighbours, is
PERCENTILE_DISC, which takes one that was there.
"""

from __future__ import annotations

from typing import Any

_SUCCESS = {"path": "properties.finalStatus", "op": "eq", "value": "success"}
_MEASURED = {"all": [_SUCCESS, {"path": "properties.uploadDuration", "op": "exists"}]}
_IMPORT = "data_import_completed"
_TICKET = {"path": "properties.category", "op": "in", "value": ["import_issue", "data_migration", "file_upload"]}


def _seconds(field: str, *aggregations: str) -> dict[str, Any]:
    return {
        "type": "value",
        "event": _IMPORT,
        "filter": _MEASURED,
        "value": f"properties.{field} / 1000",
        "aggregations": list(aggregations),
    }


def _share_of_status(*statuses: str) -> dict[str, Any]:
    wanted = {"path": "properties.finalStatus", "op": "in", "value": list(statuses)}
    return {
        "type": "ratio",
        "numerator": {"event": _IMPORT, "filter": wanted},
        "denominator": {"event": _IMPORT},
    }


DEFINITIONS: dict[str, dict[str, Any]] = {
    # Time-based performance indicators
    "s1_total_time": _seconds("totalSessionDuration", "count", "p50", "p90", "p95", "share<=300"),
    "s1_upload_time": _seconds("uploadDuration", "p50"),
    "s1_analysis_time": _seconds("totalDuration", "p50"),
    "s1_mapping_time": _seconds("reviewDuration", "p50"),
    # User satisfaction
    "s1_satisfaction": {
        "type": "survey",
        "event": "satisfaction_survey_completed",
        "questions": {
            "overall_rating": {"min": 1, "max": 5},
            "ease_of_use": {"min": 1, "max": 5},
            "speed_rating": {"min": 1, "max": 5},
            "likelihood_to_recommend": {"nps": True},
        },
    },
    # Import success rate
    "s1_imports": {"type": "count", "event": _IMPORT, "group_by": ["properties.finalStatus"]},
    "s1_success_rate": _share_of_status("success"),
    "s1_completion_rate": _share_of_status("success", "partial_success"),
    "s1_record_success": {
        "type": "value",
        "event": _IMPORT,
        "value": "number(properties.recordsSuccessful) / number(properties.recordsProcessed)",
        "aggregations": ["avg", "p50"],
    },
    "s1_duration": {
        "type": "value",
        "event": _IMPORT,
        "value": "properties.totalDuration / 1000 / 60",
        "aggregations": ["avg", "p95"],
    },
    # Error patterns
    "s1_errors": {
        "type": "breakdown",
        "event": _IMPORT,
        "of": "properties.errorCategories",
        "aggregations": ["count", "share", "trend"],
    },
    # Support: how many sessions there are, and how long tickets take
    "s1_sessions": {"type": "unique", "event": "migration_session_started", "of": "session_id"},
    "s1_resolution": {
        "type": "value",
        "event": "support_ticket_resolved",
        "filter": _TICKET,
        "value": "seconds_between(properties.created_at, properties.resolved_at) / 3600",
        "aggregations": ["avg", "p50", "share<=2", "share<=24", "count"],
    },
    # Health checks
    "s1_analysis_ms": {
        "type": "value",
        "event": "ai_analysis_completed",
        "value": "properties.totalDuration",
        "aggregations": ["avg", "max", "count"],
    },
    "s1_failure_rate": _share_of_status("failed"),
}

TIMING = """
WITH timing_metrics AS (
  SELECT
    (metadata->>'uploadDuration')::numeric / 1000 as upload_seconds,
    (metadata->>'totalDuration')::numeric / 1000 as analysis_seconds,
    (metadata->>'reviewDuration')::numeric / 1000 as mapping_seconds,
    (metadata->>'totalSessionDuration')::numeric / 1000 as total_seconds,
    CASE WHEN metadata->>'finalStatus' = 'success' THEN 1 ELSE 0 END as is_success
  FROM analytics_events
  WHERE timestamp >= $1::timestamptz - INTERVAL '7 days'
    AND metadata->>'eventName' IN ('data_import_completed')
    AND metadata->>'uploadDuration' IS NOT NULL
)
SELECT
  COUNT(*) FILTER (WHERE is_success = 1) as successful_sessions,
  PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY total_seconds) FILTER (WHERE is_success = 1) as median_total_time,
  PERCENTILE_DISC(0.9) WITHIN GROUP (ORDER BY total_seconds) FILTER (WHERE is_success = 1) as p90_total_time,
  PERCENTILE_DISC(0.95) WITHIN GROUP (ORDER BY total_seconds) FILTER (WHERE is_success = 1) as p95_total_time,
  PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY upload_seconds) FILTER (WHERE is_success = 1) as median_upload_time,
  PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY analysis_seconds) FILTER (WHERE is_success = 1) as median_analysis_time,
  PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY mapping_seconds) FILTER (WHERE is_success = 1) as median_mapping_time,
  COUNT(*) FILTER (WHERE total_seconds <= 300 AND is_success = 1) as under_5_minutes,
  ROUND(COUNT(*) FILTER (WHERE total_seconds <= 300 AND is_success = 1) * 100.0 /
        NULLIF(COUNT(*) FILTER (WHERE is_success = 1), 0), 1) as pct_under_5_minutes
FROM timing_metrics
"""

SATISFACTION = """
SELECT
  DATE(timestamp AT TIME ZONE 'UTC') as date,
  AVG((metadata->>'overall_rating')::float) as avg_rating,
  AVG((metadata->>'ease_of_use')::float) as avg_ease_score,
  AVG((metadata->>'speed_rating')::float) as avg_speed_score,
  COUNT(*) as response_count,
  (COUNT(*) FILTER (WHERE (metadata->>'likelihood_to_recommend')::int >= 9)
   - COUNT(*) FILTER (WHERE (metadata->>'likelihood_to_recommend')::int <= 6)) * 100.0
   / NULLIF(COUNT(metadata->>'likelihood_to_recommend'), 0) as nps
FROM analytics_events
WHERE metadata->>'eventName' = 'satisfaction_survey_completed'
  AND timestamp >= $1::timestamptz - INTERVAL '30 days'
GROUP BY date
ORDER BY date DESC
"""

QUALITY = """
WITH import_results AS (
  SELECT
    metadata->>'finalStatus' as status,
    (metadata->>'recordsProcessed')::int as records_processed,
    (metadata->>'recordsSuccessful')::int as records_successful,
    (metadata->>'totalDuration')::numeric as duration_ms,
    (timestamp AT TIME ZONE 'UTC')::date as import_date
  FROM analytics_events
  WHERE metadata->>'eventName' = 'data_import_completed'
    AND timestamp >= $1::timestamptz - INTERVAL '7 days'
)
SELECT
  import_date,
  COUNT(*) as total_imports,
  COUNT(*) FILTER (WHERE status = 'success') as full_success,
  COUNT(*) FILTER (WHERE status = 'partial_success') as partial_success,
  COUNT(*) FILTER (WHERE status = 'failed') as failed_imports,
  COUNT(*) FILTER (WHERE status = 'success') * 1.0 / NULLIF(COUNT(*), 0) as success_rate,
  COUNT(*) FILTER (WHERE status IN ('success', 'partial_success')) * 1.0 / NULLIF(COUNT(*), 0) as completion_rate,
  AVG(records_successful::float / NULLIF(records_processed, 0)) as avg_record_success_rate,
  PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY records_successful::float / NULLIF(records_processed, 0))
    as median_record_success_rate,
  AVG(duration_ms / 1000.0 / 60.0) as avg_duration_minutes,
  PERCENTILE_DISC(0.95) WITHIN GROUP (ORDER BY duration_ms / 1000.0 / 60.0) as p95_duration_minutes
FROM import_results
GROUP BY import_date
ORDER BY import_date DESC
"""

ERRORS = """
WITH error_analysis AS (
  SELECT
    DATE(timestamp AT TIME ZONE 'UTC') as date,
    jsonb_array_elements_text((metadata->>'errorCategories')::jsonb) as error_category,
    COUNT(*) as occurrences
  FROM analytics_events
  WHERE metadata->>'eventName' = 'data_import_completed'
    AND metadata->>'errorCategories' IS NOT NULL
    AND timestamp >= $1::timestamptz - INTERVAL '14 days'
  GROUP BY date, error_category
)
SELECT
  error_category,
  SUM(occurrences)::bigint as total_occurrences,
  AVG(occurrences) as avg_daily_occurrences,
  SUM(occurrences) / (SELECT SUM(occurrences) FROM error_analysis) as error_share,
  STRING_AGG(DISTINCT date::text, ', ' ORDER BY date::text DESC) as recent_dates
FROM error_analysis
GROUP BY error_category
ORDER BY total_occurrences DESC, error_category
"""

SESSIONS = """
SELECT COUNT(DISTINCT metadata->>'sessionId') as total_import_sessions
FROM analytics_events
WHERE metadata->>'eventName' = 'migration_session_started'
  AND timestamp >= $1::timestamptz - INTERVAL '30 days'
"""

RESOLUTION = """
WITH support_tickets AS (
  SELECT metadata->>'category' as category, (metadata->>'created_at')::timestamptz as created_at,
         (metadata->>'resolved_at')::timestamptz as resolved_at
  FROM analytics_events WHERE metadata->>'eventName' = 'support_ticket_resolved'
)
SELECT
  AVG(EXTRACT(EPOCH FROM (resolved_at - created_at)) / 3600) as avg_resolution_hours,
  PERCENTILE_DISC(0.5) WITHIN GROUP (ORDER BY EXTRACT(EPOCH FROM (resolved_at - created_at)) / 3600)
    as median_resolution_hours,
  COUNT(*) FILTER (WHERE resolved_at - created_at <= INTERVAL '2 hours') as resolved_within_2h,
  COUNT(*) FILTER (WHERE resolved_at - created_at <= INTERVAL '24 hours') as resolved_within_24h
FROM support_tickets
WHERE category IN ('import_issue', 'data_migration', 'file_upload')
  AND created_at >= $1::timestamptz - INTERVAL '30 days'
  AND resolved_at IS NOT NULL
"""

ANALYSIS = """
SELECT
  AVG((metadata->>'totalDuration')::int) as avg_analysis_time_ms,
  MAX((metadata->>'totalDuration')::int) as max_analysis_time_ms,
  COUNT(*) as analysis_count
FROM analytics_events
WHERE metadata->>'eventName' = 'ai_analysis_completed'
  AND timestamp >= $1::timestamptz - INTERVAL '1 hour'
"""

FAILURES = """
SELECT
  COUNT(*) FILTER (WHERE metadata->>'finalStatus' = 'failed') as failed_imports,
  COUNT(*) as total_imports,
  COUNT(*) FILTER (WHERE metadata->>'finalStatus' = 'failed') * 1.0 / NULLIF(COUNT(*), 0) as failure_rate
FROM analytics_events
WHERE metadata->>'eventName' = 'data_import_completed'
  AND timestamp >= $1::timestamptz - INTERVAL '2 hours'
"""

DROP = """
SELECT AVG((metadata->>'overall_rating')::float) as avg_satisfaction, COUNT(*) as response_count
FROM analytics_events
WHERE metadata->>'eventName' = 'satisfaction_survey_completed'
  AND timestamp >= $1::timestamptz - INTERVAL '24 hours'
"""
