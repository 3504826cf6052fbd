"""What models have predicted."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from services.ingest.domain.kinds.family import Demand, Family, Name, Object

PREDICTION = "prediction"
"""The type of the events that they are."""
TYPE_FIELD = "prediction_type"


class Prediction(msgspec.Struct, kw_only=True):
    """One output of a model, and what it was made of."""

    prediction_type: Annotated[Name, Meta(examples=["customer_churn"])]
    input_data: Object
    prediction_result: Object
    model_id: Annotated[str, Meta(min_length=1, max_length=256)] | int | None = None
    confidence_score: Annotated[float, Meta(ge=0, le=1)] | None = None


PREDICTIONS = Family("predictions", "Predictions of models", {PREDICTION: Demand(Prediction, marks=(TYPE_FIELD,))})
