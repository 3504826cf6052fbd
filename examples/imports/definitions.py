"""The experiment and metric definitions of one run, from `definitions/*.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

import yaml

DIRECTORY = Path(__file__).parent / "definitions"
_EXPERIMENT_FILE = "experiment.yaml"


@dataclass(frozen=True, slots=True)
class Definitions:
    """`metrics` maps metric keys to specs; `experiment` is the body that creates it, `variants` follow one by one."""

    experiment_key: str
    metrics: Mapping[str, Mapping[str, Any]]
    experiment: Mapping[str, Any]
    variants: tuple[Mapping[str, Any], ...]

    def metric(self, name: str) -> str:
        """The key of the run's metric `name`, e.g. `run_events`. Raises KeyError for one that is not defined."""
        key = f"{self.experiment_key}.{name}"
        self.metrics[key]
        return key


def load(experiment_key: str, directory: Path = DIRECTORY) -> Definitions:
    """Fills `${experiment}` into every file. Raises KeyError for another placeholder."""
    documents = {
        path.name: yaml.safe_load(Template(path.read_text(encoding="utf-8")).substitute(experiment=experiment_key))
        for path in sorted(directory.glob("*.yaml"))
    }
    experiment = documents.pop(_EXPERIMENT_FILE)
    variants = tuple(experiment.pop("variants"))
    metrics = {document["key"]: document["spec"] for document in documents.values()}
    return Definitions(experiment_key, metrics, experiment, variants)
