"""Surveys: the answers to several questions of one event, each summed up by itself; Net Promoter Scores."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from services.aggregator.domain.expressions import parse_source
from services.aggregator.domain.kinds.kind import MOMENTS, Cell, Part, Reading, aggregate
from services.aggregator.domain.kinds.measured import SIMPLE_AGGREGATIONS, Measure, Measured, parse_scale
from services.aggregator.domain.specs import COMMON, parse_aggregations, parse_selector, refuse_unknown
from services.aggregator.domain.turns import Answer, Score
from services.aggregator.domain.values import scale_one
from shared.definition_error import DefinitionError

MAX_QUESTIONS = 50
NPS_LEAST, NPS_MOST = 0, 10

_FIELDS = COMMON | {"event", "filter", "questions", "aggregations", "scale"}
_QUESTION = {"value", "min", "max", "nps"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_OF_ANSWERS = tuple(a for a in (*SIMPLE_AGGREGATIONS, *MOMENTS) if a != "sum")


@dataclass(frozen=True, slots=True)
class Survey(Measured):
    """The measures of component `answer` come first, in the order of the questions, then those of `nps`."""

    type = "survey"

    @property
    def readable(self) -> tuple[str, ...]:
        return (*_OF_ANSWERS, "nps") if "nps" in self.components else _OF_ANSWERS

    def can_read(self, aggregation: str) -> bool:
        return aggregation in self.readable

    def read(self, cells: Mapping[Part, Cell], wanted: Iterable[str]) -> list[Reading]:
        """Question by question."""
        wanted = tuple(wanted)
        scored = {m.part for m in self.measures if m.component == "nps"}
        return [
            self._reading(cells, m.part, a)
            for m in self.measures
            if m.component == "answer"
            for a in wanted
            if a != "nps" or m.part in scored
        ]

    def _reading(self, cells: Mapping[Part, Cell], question: str, aggregation: str) -> Reading:
        cell = cells.get(("nps" if aggregation == "nps" else "answer", question), Cell())
        found = aggregate(cell, "avg" if aggregation == "nps" else aggregation, self.scale)
        return Reading(aggregation, found, cell.n, part=question)


def parse_survey(spec: Mapping[str, Any]) -> Survey:
    """Raises DefinitionError, which names the faulty place."""
    refuse_unknown(spec, _FIELDS, "spec")
    questions, scale = spec.get("questions"), parse_scale(spec)
    if not isinstance(questions, Mapping) or not 1 <= len(questions) <= MAX_QUESTIONS:
        raise DefinitionError("spec.questions", f"must be an object of 1 to {MAX_QUESTIONS} questions by name")
    select = parse_selector(spec, "spec")
    answers: list[Measure] = []
    scores: list[Measure] = []
    for name, question in questions.items():
        place = f"spec.questions.{name}"
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise DefinitionError(place, "a name has 1 to 64 letters, digits, '_', '.' or '-'")
        question = {} if question is None else question
        if not isinstance(question, Mapping):
            raise DefinitionError(place, "must be an object with value, min, max and nps, each optional")
        refuse_unknown(question, _QUESTION, place)
        answer = _answer(question, place, scale)
        text = question.get("value")
        value = parse_source(f"properties.{name}" if text is None else text, f"{place}.value")
        measure = Measure("answer", select, value, turn=answer, part=name)
        answers.append(measure)
        if question.get("nps"):
            scores.append(replace(measure, component="nps", turn=Score(answer, 10**scale)))
    allowed = (*_OF_ANSWERS, "nps") if scores else _OF_ANSWERS
    default = ("avg", "count", "nps") if scores else ("avg", "count")
    return Survey(scale, parse_aggregations(spec, allowed, default=default), (*answers, *scores))


def _answer(question: Mapping[str, Any], place: str, scale: int) -> Answer:
    nps = question.get("nps", False)
    if not isinstance(nps, bool):
        raise DefinitionError(f"{place}.nps", "must be true or false")
    low = _bound(question.get("min", NPS_LEAST if nps else None), f"{place}.min", scale)
    high = _bound(question.get("max", NPS_MOST if nps else None), f"{place}.max", scale)
    if low is not None and high is not None and low > high:
        raise DefinitionError(f"{place}.min", "is above max")
    return Answer(low, high)


def _bound(value: object, place: str, scale: int) -> int | None:
    if value is None:
        return None
    scaled = scale_one(value, scale)
    if not isinstance(scaled, int):
        raise DefinitionError(place, "must be a number")
    return scaled
