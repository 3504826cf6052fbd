"""Switching off and on by hand, and what is off: /api/v1/admin/switches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends

from services.assignment.directory import Directory
from services.assignment.domain.switches import Off
from services.assignment.flag_directory import DEFINITION, FlagDirectory
from services.assignment.schemas import Body, Name, Text
from services.assignment.switches import MANUAL, Change, Switches, Target
from shared.clock import to_iso
from shared.http import Problem, StrictRoute, principal_of, unavailable
from shared.keys import Principal

_Who = Annotated[Principal, Depends(principal_of)]


class Kill(Body):
    """Without a variant the whole flag or experiment. `reason` is kept and shown beside who killed it."""

    variant: Name | None = None
    reason: Text | None = None


class Restore(Body):
    """`cause` is who switched it off: by hand, or `breaker:KEY` as GET shows it."""

    variant: Name | None = None
    cause: Name = MANUAL
    reason: Text | None = None


class SwitchRoutes:
    """Decides from local copies only, so that switching works with Postgres and all other services down."""

    def __init__(self, switches: Switches, flags: FlagDirectory, experiments: Directory) -> None:
        self._switches = switches
        self._flags = flags
        self._experiments = experiments

    def routes(self) -> APIRouter:
        routes = APIRouter(route_class=StrictRoute, prefix="/api/v1/admin/switches", tags=["switches"])

        @routes.get("", summary="List switches")
        async def list_switches(who: _Who) -> Sequence[dict[str, Any]]:
            """Everything that is off, and why."""
            keys = {key for key, _ in self._switches.board.of(who.organisation)}
            keys |= {entry.flag.key for entry in self._flags.disabled(who.organisation)}
            return [self._shown(who, key) for key in sorted(keys)]

        @routes.get("/{key}", summary="Get switches of a flag or experiment")
        async def get_switches(key: str, who: _Who) -> dict[str, Any]:
            """`off` is empty while nothing holds it off."""
            self._check(Target(who.organisation, key))
            return self._shown(who, key)

        @routes.post("/{key}/kill", summary="Turn a flag or experiment off")
        async def kill(key: str, who: _Who, body: Kill | None = None) -> dict[str, Any]:
            """Off until restored by hand, whatever else happens. Answered once Kafka has it."""
            wish = body or Kill()
            target = Target(who.organisation, key, wish.variant)
            self._check(target)
            experiment = self._experiments.by_key(who.organisation, key)
            control = None if experiment is None else experiment.rules.control
            if control is not None and control.name == wish.variant:
                raise Problem(422, "variant_is_control", "units of a killed variant get the control: kill another")
            change = await self._switches.kill(target, by=who.key, reason=wish.reason)
            return self._answer(who, target, MANUAL, change, off=True)

        @routes.post("/{key}/restore", summary="Turn it on again")
        async def restore(key: str, who: _Who, body: Restore | None = None) -> dict[str, Any]:
            """Makes one cause let go; `off` in the answer shows what still holds it. Answered once Kafka has it."""
            wish = body or Restore()
            target = Target(who.organisation, key, wish.variant)
            self._check(target)
            change = await self._switches.restore(target, wish.cause, by=who.key, reason=wish.reason)
            return self._answer(who, target, wish.cause, change, off=False)

        return routes

    def _check(self, target: Target) -> None:
        """What is off may be restored even if its definition is gone. Raises Problem."""
        hold = self._switches.board.hold(target.organisation, target.key)
        if hold is not None and any(off.variant == target.variant for off in hold.offs):
            return
        experiment = self._experiments.by_key(target.organisation, target.key)
        flag = self._flags.find(target.organisation, target.key)
        if flag is None and experiment is None and hold is None:
            raise Problem(404, "flag_not_found", f"there is no flag or experiment {target.key!r}")
        if target.variant is not None and (experiment is None or target.variant not in experiment.rules.by_name):
            raise Problem(404, "variant_not_found", f"{target.key!r} has no variant {target.variant!r}")

    def _answer(self, who: Principal, target: Target, cause: str, change: Change, *, off: bool) -> dict[str, Any]:
        if change is Change.UNKNOWN:
            raise unavailable("Kafka does not answer; it may still happen, so say it again", reason="not_published")
        return {
            **self._shown(who, target.key),
            "switched": {
                "variant": target.variant,
                "cause": cause,
                "to": "off" if off else "on",
                "changed": change is Change.DONE,
            },
        }

    def _shown(self, who: Principal, key: str) -> dict[str, Any]:
        flag = self._flags.find(who.organisation, key)
        hold = self._switches.board.hold(who.organisation, key)
        kind: Literal["flag", "experiment"] | None = "flag" if flag is not None else None
        if kind is None and self._experiments.by_key(who.organisation, key) is not None:
            kind = "experiment"
        offs = [] if hold is None else [_off(off) for off in hold.offs]
        if flag is not None and not flag.flag.enabled:
            offs.insert(0, {"cause": DEFINITION, "variant": None})
        return {"key": key, "kind": kind, "off": offs}


def _off(off: Off) -> dict[str, Any]:
    return {
        "cause": off.cause,
        "variant": off.variant,
        "off_since": to_iso(off.since),
        "decided_at": to_iso(off.decided_at),
        "half_open": off.half_open,
        "admit_from": off.admit_from,
        "admit_to": off.admit_to,
        "evidence": dict(off.evidence or {}),
    }
