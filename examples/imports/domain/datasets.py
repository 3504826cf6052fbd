"""What can be imported: the tables of the airline data, their fields and the rules a record must keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """How a cell is read; the value is the staging column's Postgres type."""

    TEXT = "text"
    INTEGER = "bigint"
    DECIMAL = "double precision"
    TIMESTAMP = "timestamptz"


@dataclass(frozen=True, slots=True)
class Field:
    """A target field. `low` and `high` are inclusive; `aliases` are other headers that mean it."""

    name: str
    kind: Kind = Kind.TEXT
    required: bool = False
    low: float | None = None
    high: float | None = None
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Dataset:
    """`key` names the field that must be unique within one file, if there is one."""

    name: str
    fields: tuple[Field, ...]
    key: str | None = None

    @property
    def table(self) -> str:
        return f"staging_{self.name}"


def _text(name: str, *aliases: str, required: bool = False) -> Field:
    return Field(name, Kind.TEXT, required, aliases=aliases)


def _integer(name: str, low: float, high: float, *aliases: str, required: bool = True) -> Field:
    return Field(name, Kind.INTEGER, required, low, high, aliases)


def _decimal(name: str, low: float, high: float, *aliases: str, required: bool = False) -> Field:
    return Field(name, Kind.DECIMAL, required, low, high, aliases)


_YEAR = _integer("year", 1900, 2100)
_MONTH = _integer("month", 1, 12)
_DAY = _integer("day", 1, 31, "day_of_month")
_HOUR = _integer("hour", 0, 24)
_TIME_HOUR = Field("time_hour", Kind.TIMESTAMP, True, aliases=("timestamp", "observed_at"))

AIRLINES = Dataset(
    "airlines",
    (_text("carrier", "carrier_code", "iata", required=True), _text("name", "airline", required=True)),
    key="carrier",
)
AIRPORTS = Dataset(
    "airports",
    (
        _text("faa", "faa_code", "airport_code", required=True),
        _text("name", "airport_name", required=True),
        _decimal("lat", -90, 90, "latitude", required=True),
        _decimal("lon", -180, 180, "longitude", "lng", required=True),
        _integer("alt", -1_500, 30_000, "altitude", "elevation_ft"),
        _integer("tz", -12, 14, "utc_offset", required=False),
        _text("dst"),
        _text("tzone", "time_zone"),
    ),
    key="faa",
)
PLANES = Dataset(
    "planes",
    (
        _text("tailnum", "tail_number", "registration", required=True),
        _integer("year", 1900, 2100, "year_built", required=False),
        _text("type"),
        _text("manufacturer", "maker"),
        _text("model"),
        _integer("engines", 1, 8, "engine_count"),
        _integer("seats", 1, 900, "seat_count"),
        _integer("speed", 1, 2_000, required=False),
        _text("engine", "engine_type"),
    ),
    key="tailnum",
)
WEATHER = Dataset(
    "weather",
    (
        _text("origin", "station", required=True),
        _YEAR,
        _MONTH,
        _DAY,
        _HOUR,
        _decimal("temp", -80, 140, "temperature"),
        _decimal("dewp", -80, 140, "dew_point"),
        _decimal("humid", 0, 100, "humidity"),
        _integer("wind_dir", 0, 360, "wind_direction", required=False),
        _decimal("wind_speed", 0, 253),
        _decimal("wind_gust", 0, 253),
        _decimal("precip", 0, 75, "precipitation"),
        _decimal("pressure", 850, 1_090),
        _decimal("visib", 0, 100, "visibility"),
        _TIME_HOUR,
    ),
)
FLIGHTS = Dataset(
    "flights",
    (
        _YEAR,
        _MONTH,
        _DAY,
        _integer("dep_time", 0, 2_400, "departure_time", required=False),
        _integer("sched_dep_time", 0, 2_400),
        _integer("dep_delay", -200, 5_000, "departure_delay", required=False),
        _integer("arr_time", 0, 2_400, "arrival_time", required=False),
        _integer("sched_arr_time", 0, 2_400),
        _integer("arr_delay", -200, 5_000, "arrival_delay", required=False),
        _text("carrier", "airline", required=True),
        _integer("flight", 1, 9_999, "flight_number"),
        _text("tailnum", "tail_number"),
        _text("origin", required=True),
        _text("dest", "destination", required=True),
        _integer("air_time", 1, 2_000, required=False),
        _decimal("distance", 1, 12_000, required=True),
        _HOUR,
        _integer("minute", 0, 59),
        _TIME_HOUR,
    ),
)

DATASETS: Mapping[str, Dataset] = {d.name: d for d in (AIRLINES, AIRPORTS, PLANES, WEATHER, FLIGHTS)}
