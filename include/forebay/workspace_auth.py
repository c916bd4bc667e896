"""Airflow's FAB auth manager with one right for all jobs of a workspace, present and to come."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.models.dag import DagModel
from airflow.providers.fab.auth_manager.fab_auth_manager import FabAuthManager
from airflow.utils.session import NEW_SESSION, provide_session
from sqlalchemy import select

if TYPE_CHECKING:
    from airflow.api_fastapi.auth.managers.base_auth_manager import ResourceMethod
    from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
    from airflow.providers.fab.auth_manager.models import User
    from sqlalchemy.orm import Session


class WorkspaceFabAuthManager(FabAuthManager):
    """FAB's auth manager, for which a right on `DAG:<workspace>` is one on every job of that workspace.

    Rights on single jobs (`DAG:<workspace>.<job>`) and on all (`DAGs`) stay what they are.
    """

    def is_authorized_dag(
        self,
        *,
        method: ResourceMethod,
        user: User,
        access_entity: DagAccessEntity | None = None,
        details: DagDetails | None = None,
    ) -> bool:
        may = super().is_authorized_dag
        if may(method=method, user=user, access_entity=access_entity, details=details):
            return True
        workspace, dot, _ = ((details and details.id) or "").partition(".")
        if details is None or not dot:
            return False
        whole = replace(details, id=workspace)
        return bool(may(method=method, user=user, access_entity=access_entity, details=whole))

    @provide_session
    def get_authorized_dag_ids(
        self, *, user: User, method: ResourceMethod = "GET", session: Session = NEW_SESSION
    ) -> set[str]:
        # FAB's own looks for rights that are named like jobs.
        every = set(session.scalars(select(DagModel.dag_id)))
        return self.filter_authorized_dag_ids(dag_ids=every, user=user, method=method)
