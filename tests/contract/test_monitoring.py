"""Prometheus asks every service, and Grafana shows only figures that there are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import yaml

from tests.contract.composed import ROOT, own_services, ports, services

DASHBOARD = ROOT / "deploy" / "grafana" / "dashboards" / "pipeline.json"
PROVISIONING = ROOT / "deploy" / "grafana" / "provisioning"

# What Prometheus makes of a metric of each class; the text format's own `_created` series are nobody's business.
SERIES = {
    "Counter": ("",),
    "CounterMetricFamily": ("",),
    "Gauge": ("",),
    "GaugeMetricFamily": ("",),
    "Histogram": ("_bucket", "_sum", "_count"),
}


def metrics() -> dict[str, set[str]]:
    """The names of all series that the services' code can show, each with its labels."""
    found: dict[str, set[str]] = {}
    for package in ("services", "shared"):
        for path in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SERIES:
                    name = node.args[0] if node.args else None
                    if isinstance(name, ast.Constant) and isinstance(name.value, str):
                        total = "_total" if node.func.id.startswith("Counter") else ""
                        stem = name.value.removesuffix(total) + total
                        found |= {stem + suffix: _labels(node) for suffix in SERIES[node.func.id]}
    return found


def _labels(call: ast.Call) -> set[str]:
    lists = [each for each in call.args if isinstance(each, ast.List)]
    constants = [each.value for list_ in lists for each in list_.elts if isinstance(each, ast.Constant)]
    return {value for value in constants if isinstance(value, str)}


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


@pytest.fixture(scope="module")
def dashboard() -> dict[str, Any]:
    return msgspec.json.decode(DASHBOARD.read_bytes(), type=dict[str, Any])


def test_prometheus_asks_every_service_and_labels_its_series_by_it() -> None:
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    asked = {
        target: static["labels"]["service"]
        for job in config["scrape_configs"]
        if job["job_name"] == "tidegate"
        for static in job["static_configs"]
        for target in static["targets"]
    }
    assert asked == {f"{name}:{ports()[name]}": name for name in own_services()}


def test_prometheus_reads_the_files_that_are_mounted() -> None:
    prometheus = services()["prometheus"]
    volumes = [volume.split(":") for volume in prometheus["volumes"]]
    options = dict(option.removeprefix("--").split("=", 1) for option in prometheus["command"])
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    assert {options["config.file"], options["storage.tsdb.path"], *config["rule_files"]} == {v[1] for v in volumes}
    files = [ROOT / source for source, *_ in volumes if source.startswith(".")]
    assert files
    assert all(file.is_file() for file in files)


def rules() -> list[dict[str, Any]]:
    found = yaml.safe_load((ROOT / "deploy" / "prometheus" / "rules.yml").read_text(encoding="utf-8"))
    return [rule for group in found["groups"] for rule in group["rules"]]


def test_every_rule_looks_at_figures_that_the_services_show_by_labels_that_they_have() -> None:
    known = metrics()
    for rule in rules():
        shown = re.findall(r"\b(tidegate_\w+)(?:\{(\w+)=)?", rule["expr"])
        assert shown, rule["alert"]
        for name, label in shown:
            assert name in known, rule["alert"]
            assert not label or label in known[name], rule["alert"]
        kept = {label for by in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in re.findall(r"\w+", by)}
        assert kept <= set().union(*(known[name] for name, _ in shown)), rule["alert"]
        said = " ".join(rule["annotations"].values())
        assert set(re.findall(r"\$labels\.(\w+)", said)) <= kept, rule["alert"]


def test_every_rule_has_a_name_of_its_own_a_severity_and_says_what_to_do() -> None:
    assert len({rule["alert"] for rule in rules()}) == len(rules())
    for rule in rules():
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert set(rule["annotations"]) == {"summary", "description"}


def test_grafana_finds_the_data_source_and_the_dashboards() -> None:
    source = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))
    provider = yaml.safe_load((PROVISIONING / "dashboards" / "tidegate.yml").read_text(encoding="utf-8"))
    assert [each["url"] for each in source["datasources"]] == ["http://prometheus:9090"]
    directory = provider["providers"][0]["options"]["path"]
    grafana = services()["grafana"]
    assert f"./deploy/grafana/dashboards:{directory}:ro" in grafana["volumes"]
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{directory}/{DASHBOARD.name}"


def test_every_figure_on_the_dashboard_is_one_that_the_services_show(dashboard: dict[str, Any]) -> None:
    queries = [target["expr"] for panel in panels(dashboard) for target in panel.get("targets", [])]
    shown = {name for query in queries for name in re.findall(r"\btidegate_\w+", query)}
    assert shown - set(metrics()) == set()
    assert len(shown) >= 10


def test_every_figure_is_added_up_by_labels_that_it_has_and_shown_by_labels_that_are_left(
    dashboard: dict[str, Any],
) -> None:
    known = metrics()
    for target in (target for panel in panels(dashboard) for target in panel.get("targets", [])):
        left: set[str] = set()
        for labels, metric in re.findall(r"by \(([^)]*)\) \(\w+\((tidegate_\w+)", target["expr"]):
            left = set(re.findall(r"\w+", labels))
            assert left <= known[metric] | {"le", "service"}, target["expr"]
        if "by (" not in target["expr"]:
            left = {"service"} if target["expr"].startswith("up") else set()
        elif not left:
            left = set(re.findall(r"\w+", target["expr"].split("by (")[1].split(")")[0]))
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left, target["expr"]


def test_every_panel_asks_the_provisioned_data_source_and_has_a_title_of_its_own(dashboard: dict[str, Any]) -> None:
    source = yaml.safe_load((PROVISIONING / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))
    uid = source["datasources"][0]["uid"]
    drawn = [panel for panel in panels(dashboard) if panel["type"] != "row"]
    assert {panel["datasource"]["uid"] for panel in drawn} == {uid}
    assert len({panel["title"] for panel in drawn}) == len(drawn)
    assert len({panel["id"] for panel in panels(dashboard)}) == len(list(panels(dashboard)))


def test_no_two_panels_lie_on_each_other(dashboard: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(dashboard):
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
