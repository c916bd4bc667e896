"""FAB's roles of each workspace, made of the groups that an identity provider says somebody is in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from airflow.providers.fab.auth_manager.security_manager.override import FabAirflowSecurityManagerOverride
from airflow.providers.fab.www.security import permissions

if TYPE_CHECKING:
    from airflow.providers.fab.auth_manager.models import Role

_FAB = FabAirflowSecurityManagerOverride
_READER = _FAB.VIEWER_PERMISSIONS
_EDITOR = [*_READER, *_FAB.USER_PERMISSIONS]
_AUDIT = [
    (action, permissions.RESOURCE_AUDIT_LOG)
    for action in (permissions.ACTION_CAN_READ, permissions.ACTION_CAN_ACCESS_MENU)
]
KINDS = {"reader": _READER, "editor": _EDITOR, "operator": [*_EDITOR, *_FAB.OP_PERMISSIONS, *_AUDIT]}
"""What Airflow's own roles Viewer, User and Op may do; an operator also reads the audit log of the workspace."""
# FAB's names of roles have 64 characters at most.
_GROUP = re.compile(rf"/?(?P<workspace>[a-z][a-z0-9_]{{0,54}})[-/](?P<kind>{'|'.join(KINDS)})")


def rights(workspace: str, kind: str) -> list[tuple[str, str]]:
    """The rights of a kind of role in one workspace; connections, variables and pools are everybody's in Airflow."""
    jobs = permissions.resource_name(workspace, permissions.RESOURCE_DAG)
    menu = permissions.ACTION_CAN_ACCESS_MENU
    return [
        (action, jobs if resource == permissions.RESOURCE_DAG and action != menu else resource)
        for action, resource in KINDS[kind]
    ]


class WorkspaceRoles(FabAirflowSecurityManagerOverride):
    """Gives who is in the group `<workspace>-<kind>`, or `<workspace>/<kind>`, the role of that name.

    A role that lacks rights of its kind gets them at the next login of one of its people; what was added stays.
    """

    def get_roles_from_keys(self, role_keys: Sequence[str]) -> set[Role]:
        roles: set[Role] = super().get_roles_from_keys(list(role_keys))
        for workspace, kind in sorted(set(filter(None, map(of_group, role_keys)))):
            name = f"{workspace}-{kind}"
            self.bulk_sync_roles([{"role": name, "perms": rights(workspace, kind)}])
            if role := self.find_role(name):
                roles.add(role)
        return roles


def of_group(name: str) -> tuple[str, str] | None:
    """The workspace and the kind of role that a group stands for; None for other groups."""
    found = _GROUP.fullmatch(name)
    return (found["workspace"], found["kind"]) if found else None
