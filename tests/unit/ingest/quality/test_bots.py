"""Robots by their user agents."""

from __future__ import annotations

from typing import Any

import pytest

from services.ingest.domain.quality.aside import Aside, SetAside
from services.ingest.domain.quality.bots import Robots
from services.ingest.domain.quality.checks import bot_check
from services.ingest.domain.quality.inspection import Check
from services.ingest.domain.quality.intake_rule import parse_intake_rule
from shared.messages import Event

CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36"
)
GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.fixture(scope="module")
def robots() -> Robots:
    return Robots()


@pytest.mark.parametrize(
    "agent",
    [
        GOOGLE,
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "facebookexternalhit/1.1",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) HeadlessChrome/120.0 Safari/537.36",
        "AhrefsBot/7.0 " + "x" * 100_000,
    ],
    ids=lambda agent: agent[:60],
)
def test_crawlers_are_robots(robots: Robots, agent: str) -> None:
    assert robots.knows(agent)


@pytest.mark.parametrize(
    "agent",
    [
        *(CHROME, "Mozilla/5.0 (Linux; Android 11; CUBOT X30) AppleWebKit/537.36", "", "\U0001f916", None, 5),
        *("python-requests/2.32.5", "Python-urllib/3.13", "python-httpx/0.28.1", "Python/3.13 aiohttp/3.14"),
        *("analytics-python/2.4.0", "analytics-node/2.3.0", "posthog-python/7.91.0", "posthog-node/5.0.0"),
        *("curl/8.15.0", "Wget/1.25", "Go-http-client/2.0", "okhttp/5.1.0", "axios/1.12.0", "node-fetch/1.0"),
        *("Apache-HttpClient/5.5 (Java/21)", "Java-http-client/21", "GuzzleHttp/7", "got (https://github.com/x/got)"),
    ],
    ids=repr,
)
def test_browsers_and_what_servers_send_with_are_none(robots: Robots, agent: object) -> None:
    assert not robots.knows(agent)


def check(robots: Robots, *specs: dict[str, Any]) -> Check:
    found = bot_check([parse_intake_rule(f"r{n}", spec) for n, spec in enumerate(specs)], robots.knows)
    assert found is not None
    return found


def sent_by(agent: str, event_type: str = "page") -> Event:
    return Event(
        organisation="acme",
        event_id="e",
        event_type=event_type,
        time=1,
        received_at=1,
        context={"userAgent": agent, "a": 1},
    )


def test_their_events_are_dropped_or_marked_and_others_stay_as_they_are(robots: Robots) -> None:
    dropped = check(robots, {"bots": "drop"})(sent_by(GOOGLE), 1)
    marked = check(robots, {"bots": "mark"})(sent_by(GOOGLE), 1)
    person = sent_by(CHROME)

    assert isinstance(dropped, SetAside)
    assert (dropped.reason, dropped.event_id) == (Aside.BOT, "e")
    assert isinstance(marked, Event)
    assert marked.context == {"userAgent": GOOGLE, "a": 1, "bot": True}
    assert check(robots, {"bots": "mark"}, {"bots": "drop"})(person, 1) is person


def test_a_rule_about_some_event_types_leaves_the_others_alone(robots: Robots) -> None:
    some = check(robots, {"bots": "drop", "event_types": ["page*"]}, {"bots": "mark"})

    assert isinstance(some(sent_by(GOOGLE, "page_view"), 1), SetAside)
    other = some(sent_by(GOOGLE, "signup"), 1)
    assert isinstance(other, Event)
    assert other.context["bot"] is True
