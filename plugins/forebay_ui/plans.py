"""A plan to take rows back, as one visitor may see it: of a table or of a run."""

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException

from forebay.lake.built_on import Dependent, Plan, TablePlan
from forebay.stack.acts import plan_document
from forebay_ui.auth import Visitor

CHANGED = "Look at it again: it has changed since you saw it, and nothing was done."


@dataclass(frozen=True)
class Shown:
    """A plan as one visitor may see it."""

    plan: Plan
    digest: str
    """What a form says it was shown."""
    tables: list[TablePlan]
    built_on: list[Dependent]
    doubts: list[str]
    hidden: int
    """How much of it is in workspaces that the visitor may not see."""
    refused: list[str]
    """Workspaces, as far as they may be named, that the visitor may not change."""

    @property
    def runs(self) -> int:
        return len({run for table in self.plan.tables for run in table.runs})


def shown(who: Visitor, found: Plan) -> Shown:
    """A plan without what the visitor may not see; and the workspaces of it that they may not change."""
    names = {each.table for each in found.tables} | found.branches.keys()
    workspaces = {who.owners.of(name.rpartition(".")[0]) for name in names}
    refused = sorted(
        each if who.may("GET", each) else "another workspace"
        for each in workspaces
        if not who.may("PUT", each)
    )
    tables = [each for each in found.tables if who.reads(each.table.rpartition(".")[0])]
    built_on = [each for each in found.dependents if _sees(who, each)]
    doubts = [each for each in found.doubts if who.may("GET", each.partition(".")[0])]
    every = len(found.tables) + len(found.dependents) + len(found.doubts)
    hidden = every - len(tables) - len(built_on) - len(doubts)
    return Shown(found, digest(found), tables, built_on, doubts, hidden, list(dict.fromkeys(refused)))


def digest(found: Plan) -> str:
    """The same for the same plan on the same state of the tables."""
    parts = [
        sorted((each.table, str(each.head), str(each.base)) for each in found.tables),
        sorted(found.taken),
        sorted((table, each.name) for table, branches in found.branches.items() for each in branches),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def may_do(found: Shown, seen: str) -> None:
    """Refuses what the visitor may not change, and what is not what they looked at."""
    if found.refused:
        raise HTTPException(
            403, f"It takes along tables of {', '.join(found.refused)}, which your role in Airflow does not let "
            "you change. Nothing was done."
        )  # fmt: skip
    if found.digest != seen:
        raise HTTPException(409, CHANGED)


def document(found: Shown, state: str) -> dict[str, Any]:
    """As the API gives it."""
    kept = {each.table for each in found.tables}
    names = {each.name for each in found.built_on}
    whole_plan = plan_document(found.plan, found.plan.run, state)
    return {
        **whole_plan,
        "tables": [each for each in whole_plan["tables"] if each["table"] in kept],
        "branches_dropped": {
            table: each for table, each in whole_plan["branches_dropped"].items() if table in kept
        },
        "built_on": [each for each in whole_plan["built_on"] if each["name"] in names],
        "may_have_read": found.doubts,
        "running": running(found),
        "hidden": found.hidden,
        "may_not_change": found.refused,
        "digest": found.digest,
    }


def running(found: Shown) -> list[str]:
    """Runs that are at work on what goes with it, named where the visitor may see them."""
    names = {each.name for each in found.built_on}
    return [each if each in names else "a run of another workspace" for each in found.plan.running]


def _sees(who: Visitor, one: Dependent) -> bool:
    workspace = one.run.workspace if one.run else who.owners.of(one.table.rpartition(".")[0])
    return who.may("GET", workspace) and who.reads(one.table.rpartition(".")[0])
