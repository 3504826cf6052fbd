"""The definitions of one run, from `definitions/*.yaml`: the experiment, its metrics, and what guards the imports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

DIRECTORY = Path(__file__).parent / "definitions"
_EXPERIMENT_FILE = "experiment.yaml"
_ORDER = ("metric", "flag", "channel", "rule", "breaker")
"""What others refer to comes first."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the channels of a run lead."""

    slack_url: str
    pagerduty_url: str
    routing_key: str
    smtp_host: str
    smtp_port: int


@dataclass(frozen=True, slots=True)
class Document:
    """One definition as `tidegate apply` sends it."""

    kind: str
    key: str
    spec: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Definitions:
    """`experiment` is the body that creates it, `variants` follow one by one; `documents` are in order of sending."""

    experiment_key: str
    experiment: Mapping[str, Any]
    variants: tuple[Mapping[str, Any], ...]
    documents: tuple[Document, ...]

    def metric(self, name: str) -> str:
        """The key of the run's metric `name`, e.g. `run_events`. Raises KeyError for one that is not defined."""
        key = f"{self.experiment_key}.{name}"
        self.specs("metric")[key]
        return key

    def specs(self, kind: str) -> Mapping[str, Mapping[str, Any]]:
        """Key → spec of every definition of one kind."""
        return {document.key: document.spec for document in self.documents if document.kind == kind}

    @property
    def breaker(self) -> Document:
        """The run's only circuit breaker. Its spec names the flag that it switches."""
        (breaker,) = (document for document in self.documents if document.kind == "breaker")
        return breaker

    @property
    def journey_seconds(self) -> int:
        """How long an import may take before it counts as abandoned."""
        timeout = str(self.specs("metric")[self.metric("import_journey")]["timeout"])
        return int(timeout.removesuffix("s"))


def load(run: str, addresses: Addresses, directory: Path = DIRECTORY) -> Definitions:
    """Fills `${run}`, `${experiment}` and the addresses into every file. Raises KeyError for another placeholder."""
    experiment_key = f"import_processing_mode_{run}"
    values = {"run": run, "experiment": experiment_key, **asdict(addresses)}
    files = {
        path.name: list(yaml.safe_load_all(Template(path.read_text(encoding="utf-8")).substitute(values)))
        for path in sorted(directory.glob("*.yaml"))
    }
    (experiment,) = files.pop(_EXPERIMENT_FILE)
    variants = tuple(experiment.pop("variants"))
    documents = [Document(**content) for contents in files.values() for content in contents]
    documents.sort(key=lambda document: _ORDER.index(document.kind))
    return Definitions(experiment_key, experiment, variants, tuple(documents))
