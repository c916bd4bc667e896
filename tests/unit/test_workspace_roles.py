"""Which role a group stands for, and what the role may do."""

from __future__ import annotations

import pytest

from forebay.workspace_roles import KINDS, of_group, rights


@pytest.mark.parametrize(
    ("group", "role"),
    [
        ("/flights/editor", ("flights", "editor")),
        ("flights/reader", ("flights", "reader")),
        ("flights-operator", ("flights", "operator")),
        ("/flights-editor", ("flights", "editor")),
        ("/company/flights/editor", None),
        ("flights/admin", None),
        ("Flights/editor", None),
        ("flights/editor\n", None),
        ("/editor", None),
        (f"{'w' * 60}/editor", None),
    ],
)
def test_a_group_stands_for_a_role_of_one_workspace(group: str, role: tuple[str, str] | None) -> None:
    assert of_group(group) == role


def test_no_role_has_a_right_on_the_jobs_of_all_workspaces() -> None:
    for kind in KINDS:
        given = rights("flights", kind)
        assert {action for action, resource in given if resource == "DAGs"} == {"menu_access"}
        assert ("can_read", "DAG:flights") in given
        assert (("can_edit", "DAG:flights") in given) == (kind != "reader")
        assert not [each for each in given if each[1] in ("Users", "Roles", "Permissions")]
