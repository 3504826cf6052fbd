"""docker-compose.yml as its tests read it: parsed, with the variables' defaults filled in."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE_FILE = ROOT / "docker-compose.yml"
MONITORING_FILE = ROOT / "deploy" / "docker" / "monitoring.yml"

_VARIABLE = re.compile(r"\$\{(\w+):-([^}]*)\}")


def variables(path: Path) -> dict[str, str]:
    """Every `${NAME:-default}` of the file. A variable without a default would be empty, so none may stand there."""
    text = "\n".join(line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    found = dict(_VARIABLE.findall(text))
    assert text.count("${") == len(_VARIABLE.findall(text)), f"{path.name} has a variable without a default"
    return found


def composed(path: Path = COMPOSE_FILE) -> dict[str, Any]:
    """As `docker compose config` would show it without an `.env`."""
    text = _VARIABLE.sub(lambda match: match[2], path.read_text(encoding="utf-8"))
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = composed()["services"]
    return found


def own_services() -> dict[str, dict[str, Any]]:
    """The containers of our own image that keep running, by name."""
    return {
        name: service for name, service in services().items() if "build" in service and service.get("restart") != "no"
    }


def ports() -> dict[str, int]:
    """Where each of our services listens inside the network."""
    return {name: int(service["environment"]["TIDEGATE_PORT"]) for name, service in own_services().items()}
