"""What one simulated user will do, drawn from a seed before the run: plain data, so a run can be repeated."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from examples.imports.domain.planning import stratum_of

VariantName = Literal["realtime", "background"]
VARIANTS: tuple[VariantName, ...] = ("realtime", "background")


NAVIGATE_AWAY: Literal["navigate_away"] = "navigate_away"


class Stage(Enum):
    """S1's funnel before the import itself; a user may leave before any of them ends."""

    UPLOAD = "file_upload"
    ANALYSIS = "ai_analysis"
    REVIEW = "field_mapping_review"


class Malformation(Enum):
    """Events that parse as JSON and are still invalid."""

    NUL = "nul_character"
    HUGE_INTEGER = "integer_2_70"
    BAD_TIMESTAMP = "bad_timestamp"
    EMPTY_TYPE = "empty_event_type"
    LONE_SURROGATE = "lone_surrogate"


@dataclass(frozen=True, slots=True)
class Engagement:
    """`after` in nominal seconds since the import started."""

    action: Literal["navigate_away", "monitor_progress", "check_status"]
    after: float


@dataclass(frozen=True, slots=True)
class Survey:
    """S1's post-import questions: four on 1–5, the last on 0–10."""

    overall_rating: int
    ease_of_use: int
    speed_rating: int
    reliability: int
    likelihood_to_recommend: int


@dataclass(frozen=True, slots=True)
class Network:
    """How the user's client treats the events it sends; step numbers count its deliveries from 0.

    `held` maps a step to the nominal seconds its events wait on the device (true timestamps, late, out of order);
    steps in `resent` are sent again after their acknowledgement, steps in `doubled` twice at once.
    """

    batches: bool
    resent: frozenset[int]
    doubled: frozenset[int]
    held: Mapping[int, float]
    malformed: Mapping[int, Malformation]
    offline_hours: float | None
    """Set for a device that was offline: it reports one event older than the platform's grace of 24 h."""


@dataclass(frozen=True, slots=True)
class UserPlan:
    """Times are nominal seconds; the driver scales them to the length of the run."""

    index: int
    arrives: float
    file: int
    leaves_before: Stage | None
    abandons: Mapping[VariantName, bool]
    gives_up_at: float
    """Share of the records after which an abandoning user leaves the page."""
    upload_seconds: float
    analysis_seconds: float
    review_seconds: float
    engagements: tuple[Engagement, ...]
    notification: Literal["email", "in_app", "push"]
    opens_notification: bool
    clicks_notification: bool
    surveys: Mapping[VariantName, Survey | None]
    returns: tuple[float, ...]
    """Real seconds between looks whether imports are on again, for a user who found them switched off; after the
    last one the user gives up."""
    pageviews: int
    network: Network
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class FileChoice:
    """A file a user can pick: `weight` relative to the others, `estimated_ms` decides how patient users are.

    A file with `whole_table` is imported once for certain, by one of the first users, to the end.
    """

    weight: float
    estimated_ms: int
    whole_table: bool = False


ABANDONS: Mapping[str, Mapping[VariantName, float]] = {
    "short": {"realtime": 0.05, "background": 0.03},
    "medium": {"realtime": 0.10, "background": 0.05},
    "long": {"realtime": 0.18, "background": 0.07},
}
"""Who waits in front of a progress bar leaves more often, the more the longer it takes."""

LEAVES_EARLY: Mapping[Stage, float] = {Stage.UPLOAD: 0.04, Stage.ANALYSIS: 0.02, Stage.REVIEW: 0.04}
STEPS = 10
ARRIVALS_END = 0.9
"""Share of the run in which users arrive; the rest is for them to finish."""

_HELD_SHARE, _RESENT_SHARE, _DOUBLED_SHARE, _MALFORMED_SHARE, _OFFLINE_SHARE = 0.06, 0.06, 0.02, 0.012, 0.012
_STAYS_AWAY_SHARE, _LOOKS = 0.2, 8
_DEVICES: tuple[tuple[str, str, str], ...] = (
    ("iOS 26.1", "iPhone17,1", "cellular"),
    ("iOS 25.6", "iPad14,3", "wifi"),
    ("Android 16", "Pixel 10", "cellular"),
    ("Android 15", "SM-S926B", "wifi"),
    ("Windows 11", "PC", "ethernet"),
    ("macOS 26", "Mac16,10", "wifi"),
)
_APP_VERSIONS = ("5.1.0", "5.2.0", "5.2.1")


def draw_plan(seed: int, index: int, *, nominal_seconds: float, files: Sequence[FileChoice]) -> UserPlan:
    """The plan of user `index` (from 0); the same arguments give the same plan. The first import whole tables."""
    dice = random.Random(f"{seed}/{index}")
    whole = [number for number, choice in enumerate(files) if choice.whole_table]
    certain = index < len(whole)
    number = whole[index] if certain else dice.choices(range(len(files)), [f.weight for f in files])[0]
    stratum = stratum_of(files[number].estimated_ms)
    patience = dice.random()
    leaves = None if certain else _leaves_early(dice)
    arrives = 0.3 * index if certain else dice.uniform(0, ARRIVALS_END * nominal_seconds)
    opens = dice.random() < 0.62
    return UserPlan(
        index=index,
        arrives=arrives,
        file=number,
        leaves_before=leaves,
        abandons={v: not certain and patience < ABANDONS[stratum][v] for v in VARIANTS},
        gives_up_at=dice.uniform(0.1, 0.9),
        upload_seconds=dice.uniform(0.2, 1.2),
        analysis_seconds=dice.uniform(0.2, 1.0),
        review_seconds=dice.uniform(0.3, 2.0),
        engagements=_engagements(dice),
        notification=dice.choices(("email", "in_app", "push"), (5, 4, 1))[0],
        opens_notification=opens,
        clicks_notification=opens and dice.random() < 0.45,
        surveys={v: _survey(dice, v) for v in VARIANTS},
        pageviews=dice.choices((0, 1, 2, 3), (3, 4, 2, 1))[0],
        network=_network(dice),
        headers=_headers(dice),
        returns=_returns(dice),
    )


def _leaves_early(dice: random.Random) -> Stage | None:
    return next((stage for stage, share in LEAVES_EARLY.items() if dice.random() < share), None)


def _engagements(dice: random.Random) -> tuple[Engagement, ...]:
    chosen = []
    if dice.random() < 0.7:
        chosen.append(Engagement(NAVIGATE_AWAY, dice.uniform(0.1, 0.6)))
    if dice.random() < 0.4:
        chosen.append(Engagement("monitor_progress", dice.uniform(0.2, 1.0)))
    if dice.random() < 0.3:
        chosen.append(Engagement("check_status", dice.uniform(0.5, 1.5)))
    return tuple(sorted(chosen, key=lambda e: e.after))


def _returns(dice: random.Random) -> tuple[float, ...]:
    """Drawn last: in the first act a plan is the same with and without."""
    stays_away = dice.random() < _STAYS_AWAY_SHARE
    return () if stays_away else tuple(dice.uniform(0.8, 2.4) for _ in range(_LOOKS))


def _survey(dice: random.Random, variant: VariantName) -> Survey | None:
    """Drawn whether it is used or not, so that one answer does not shift the dice of the others."""
    answers = dice.random() < 0.35
    mood = 4.35 if variant == "background" else 4.1
    survey = Survey(
        overall_rating=_rating(dice, mood),
        ease_of_use=_rating(dice, mood),
        speed_rating=_rating(dice, mood),
        reliability=_rating(dice, mood),
        likelihood_to_recommend=min(10, max(0, round(dice.gauss(2 * mood - 0.2, 1.6)))),
    )
    return survey if answers else None


def _rating(dice: random.Random, mood: float) -> int:
    return min(5, max(1, round(dice.gauss(mood, 0.8))))


def _network(dice: random.Random) -> Network:
    steps = range(STEPS)
    doubled = frozenset(s for s in steps if dice.random() < _DOUBLED_SHARE)
    return Network(
        batches=dice.random() < 0.7,
        resent=frozenset(s for s in steps if dice.random() < _RESENT_SHARE) - doubled,
        doubled=doubled,
        held={s: dice.uniform(1.0, 6.0) for s in steps if dice.random() < _HELD_SHARE},
        malformed={s: dice.choice(list(Malformation)) for s in steps if dice.random() < _MALFORMED_SHARE},
        offline_hours=dice.uniform(26, 30) if dice.random() < _OFFLINE_SHARE else None,
    )


def _headers(dice: random.Random) -> dict[str, str]:
    system, model, network = dice.choice(_DEVICES)
    return {
        "X-App-Version": dice.choice(_APP_VERSIONS),
        "X-OS-Version": system,
        "X-Network-Type": network,
        "X-Device-Model": model,
    }
