"""Answers to the survey of satisfaction."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from services.ingest.domain.kinds.family import Demand, Family

Stars = Annotated[int, Meta(ge=1, le=5)]


class SatisfactionSurvey(msgspec.Struct, kw_only=True):
    """Each question may be left out; those of your own may be added."""

    overall_rating: Annotated[Stars, Meta(description="1 to 5 stars")] | None = None
    ease_of_use: Stars | None = None
    speed_rating: Stars | None = None
    reliability: Stars | None = None
    likelihood_to_recommend: (
        Annotated[int, Meta(ge=0, le=10, description="The net promoter score's scale")] | None
    ) = None


SURVEYS = Family(
    "surveys",
    "Answers to surveys",
    {
        "satisfaction_survey_completed": Demand(
            SatisfactionSurvey, marks=tuple(f.encode_name for f in msgspec.structs.fields(SatisfactionSurvey))
        )
    },
)
