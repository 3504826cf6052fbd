"""A series' name on the wire: `["component", "[group as JSON]"]`."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import msgspec

from services.alerting.domain.window import Group


class Series(NamedTuple):
    component: str
    group: Group


_NAME = msgspec.json.Decoder(tuple[str, str])
_GROUP = msgspec.json.Decoder(tuple[str | None, ...])


@lru_cache(maxsize=20_000)
def parse_series(text: str) -> Series | None:
    """None for what is no series of a metric."""
    try:
        component, group = _NAME.decode(text)
        return Series(component, _GROUP.decode(group))
    except msgspec.MsgspecError:
        return None


def group_text(group: Group) -> str:
    """Canonical JSON; empty for the whole."""
    return msgspec.json.encode(group).decode() if group else ""


def parse_group(text: str) -> Group:
    """The inverse of `group_text`."""
    return _GROUP.decode(text) if text else ()
