"""Who looks at a page, and what Airflow's auth manager lets them do.

This file must not have `from __future__ import annotations`: FastAPI would take what it cannot resolve for query
parameters, and the route would be open.
"""

import asyncio
import hashlib
import hmac
from collections.abc import Callable
from functools import cached_property
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.auth.managers.models.base_user import BaseUser
from airflow.api_fastapi.auth.managers.models.resource_details import (
    ConnectionDetails,
    DagAccessEntity,
    DagDetails,
    TeamDetails,
)
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.core_api.security import get_user
from airflow.configuration import conf
from airflow.models.connection import Connection as AirflowConnection
from airflow.models.dag import DagModel
from fastapi import Depends, HTTPException, Request

from forebay_ui.owners import Owners
from forebay_ui.visitor_api import VisitorApi

Method = Literal["GET", "POST", "PUT", "DELETE"]
SAFE = ("GET", "HEAD", "OPTIONS")
CSRF_FIELD, CSRF_HEADER = "csrf", "x-forebay-csrf"
RESOURCE_ROLE = "Roles"
"""FAB's name for what the security menu's roles are."""


class Visitor:
    """Somebody who is logged in to Airflow, for the time of one request."""

    def __init__(self, user: BaseUser, token: str, loop: asyncio.AbstractEventLoop) -> None:
        self.user = user
        self._token = token
        self._loop = loop
        self.owners = Owners.now()

    @property
    def name(self) -> str:
        return str(self.user.get_name())

    @cached_property
    def api(self) -> VisitorApi:
        """Airflow's REST API with this visitor's own rights."""
        return VisitorApi(self._token, self._loop)

    @cached_property
    def csrf(self) -> str:
        """What a form of ours carries and another site cannot know."""
        key = conf.get_mandatory_value("api", "secret_key").encode()
        return hmac.new(key, f"forebay-csrf\n{self._token}".encode(), hashlib.sha256).hexdigest()

    @cached_property
    def jobs(self) -> frozenset[str]:
        """Airflow's dags that they may read."""
        return frozenset(get_auth_manager().get_authorized_dag_ids(user=self.user, method="GET"))

    @cached_property
    def _jobs_of(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for job in self.jobs:
            found.setdefault(job.partition(".")[0], []).append(job)
        return found

    @cached_property
    def _workspaces(self) -> dict[tuple[Method, str], bool]:
        return {}

    def may(self, method: Method, workspace: str) -> bool:
        """Whether the auth manager allows this on the workspace's jobs: on one that exists, or on any it may have."""
        key = (method, workspace)
        if key not in self._workspaces:
            jobs = self._jobs_of.get(workspace, [])
            # Not the name of a job: it is allowed to those who may do it to every job.
            self._workspaces[key] = (method == "GET" and bool(jobs)) or any(
                self._allowed(method, name, workspace) for name in (f"{workspace}.", *jobs[:200])
            )
        return self._workspaces[key]

    def may_job(self, method: Method, job: str) -> bool:
        """Whether the auth manager allows this on the runs of one job, as it does for Airflow's own pages of them.

        The runs of a job that Airflow has forgotten are its workspace's.
        """
        workspace = job.partition(".")[0]
        if job not in self.jobs and DagModel.get_dagmodel(job) is None:
            return self.may(method, workspace)
        return self._allowed(method, job, workspace, DagAccessEntity.RUN)

    def reads(self, namespace: str) -> bool:
        """Whether they may see the tables of a namespace: those of a workspace they read."""
        return self.may("GET", self.owners.of(namespace))

    @cached_property
    def reads_anything(self) -> bool:
        return bool(self.jobs) or self._allowed("GET", "", "")

    def may_connection(self, method: Method, conn_id: str) -> bool:
        """Whether the auth manager allows this on an Airflow connection, also on one that nobody has made yet."""
        details = ConnectionDetails(conn_id=conn_id, team_name=team_of(conn_id))
        return bool(
            get_auth_manager().is_authorized_connection(method=method, details=details, user=self.user)
        )

    @cached_property
    def reads_audit(self) -> bool:
        """Whether Airflow shows them its audit log."""
        return bool(
            get_auth_manager().is_authorized_dag(
                method="GET", access_entity=DagAccessEntity.AUDIT_LOG, details=DagDetails(), user=self.user
            )
        )

    @cached_property
    def sees_all(self) -> bool:
        """Whether they see what others did, whatever it is about: admins, by what only they may do.

        Airflow's configuration is no such thing: a simple `op` may change it, and no role of FAB's.
        """
        manager = get_auth_manager()
        simple = isinstance(manager, SimpleAuthManager)
        if simple:
            # Its admin alone is in every team, also in one that nobody can be put into; ops have no other limit.
            team = TeamDetails(name="*")
            return bool(manager.is_authorized_team(method="GET", details=team, user=self.user))
        # Who may change roles could take any right.
        return bool(
            manager.is_authorized_custom_view(method="PUT", resource_name=RESOURCE_ROLE, user=self.user)
        )

    def _allowed(
        self, method: Method, job: str, workspace: str, entity: DagAccessEntity | None = None
    ) -> bool:
        team = workspace if workspace and conf.getboolean("core", "multi_team") else None
        details = DagDetails(id=job or None, team_name=team)
        return bool(
            get_auth_manager().is_authorized_dag(
                method=method, access_entity=entity, details=details, user=self.user
            )
        )


def team_of(conn_id: str) -> str | None:
    """The team that an Airflow connection belongs to; None for one of all teams."""
    return AirflowConnection.get_team_name(conn_id) if conf.getboolean("core", "multi_team") else None


async def visitor(request: Request, user: Annotated[BaseUser, Depends(get_user)]) -> Visitor:
    """The visitor of a request; 401 without a session, by Airflow's own `get_user`."""
    token = bearer(request) or request.cookies.get(COOKIE_NAME_JWT_TOKEN, "")
    return Visitor(user, token, asyncio.get_running_loop())


def bearer(request: Request) -> str:
    """The token in the header; empty where Airflow's `get_user` takes the cookie, as it does beside any other scheme."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


Visiting = Annotated[Visitor, Depends(visitor)]


def enter(request: Request, who: Visiting) -> None:
    """Closes every route to those who may not read a single job."""
    if not who.reads_anything:
        raise HTTPException(
            403, "Your role in Airflow lets you read no job, and so no table. Ask an admin for it."
        )
    # No name has such a character, and the database takes none.
    if "\0" in request.url.path or "%00" in request.url.query:
        raise HTTPException(404, "Nothing has a name with a NUL character in it.")


async def same_origin(request: Request, who: Visiting) -> None:
    """Refuses what another site makes a browser send. A caller with a bearer token is no browser's doing."""
    if request.method in SAFE or bearer(request):
        return
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise HTTPException(403, "This came from another site, and nothing was done.")
    origin = request.headers.get("origin")
    if origin and urlsplit(origin).netloc != request.headers.get("host"):
        raise HTTPException(403, "This came from another site, and nothing was done.")
    given = request.headers.get(CSRF_HEADER, "")
    if not given and "form" in request.headers.get("content-type", ""):
        given = str((await request.form()).get(CSRF_FIELD, ""))
    if not hmac.compare_digest(given.encode(), who.csrf.encode()):
        raise HTTPException(
            403, "The form is older than your session, and nothing was done. Reload the page."
        )


def of_namespace(method: Method) -> Callable[..., None]:
    """A route's right: the workspace that owns the namespace in its path. Others learn nothing of what is there."""

    def check(namespace: str, who: Visiting) -> None:
        if not who.may(method, who.owners.of(namespace)):
            raise HTTPException(
                403,
                f"Your role in Airflow does not let you see the workspace of '{namespace}'. Ask its owner for it.",
            )

    return check


def of_workspace(method: Method) -> Callable[..., None]:
    """A route's right on the workspace in its path."""

    def check(workspace: str, who: Visiting) -> None:
        if not who.may(method, workspace):
            raise HTTPException(
                403,
                f"Your role in Airflow does not let you see the workspace '{workspace}'. Ask its owner for it.",
            )

    return check


def of_job(method: Method) -> Callable[..., None]:
    """A route's right on the runs of the job in its path. Others learn nothing of what is there."""

    def check(job: str, who: Visiting) -> None:
        if not who.may_job(method, job):
            does = "see the runs of" if method == "GET" else "do this with the runs of"
            raise HTTPException(
                403, f"Your role in Airflow does not let you {does} '{job}'. Ask its owner for it."
            )

    return check


def of_connection(method: Method) -> Callable[..., None]:
    """A route's right on the Airflow connection in its path. Others do not learn whether it is there."""

    def check(connection: str, who: Visiting) -> None:
        if not who.may_connection(method, connection):
            does = "see" if method == "GET" else "check"
            raise HTTPException(
                403, f"Your role in Airflow does not let you {does} its connections. Ask an admin for it."
            )

    return check


def audits(who: Visiting) -> None:
    """A route's right: to see Airflow's audit log."""
    if not who.reads_audit:
        raise HTTPException(
            403, "Your role in Airflow does not let you see its audit log. Ask an admin for it."
        )


def guards(dependant: Any) -> set[Any]:
    """Everything a route depends on, to the last step."""
    found = {dependant.call}
    for each in dependant.dependencies:
        found |= guards(each)
    return found
