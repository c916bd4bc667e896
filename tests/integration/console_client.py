"""How tests call the console: as somebody of a role, with Airflow's own kind of session."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid
from html import unescape
from typing import TYPE_CHECKING, Any

import httpx
import jwt

from forebay.stack.services import environment

if TYPE_CHECKING:
    from conftest import Lab

PREFIX = "/forebay"
ROLES = ("viewer", "user", "op", "admin")

_ROUTES = """
import json
from forebay_ui.app import OPEN, application
print(json.dumps([[r.path, sorted(r.methods), r.path in OPEN] for r in application().routes]))
"""


def session(lab: Lab, role: str) -> str:
    """A session of somebody with a role, as Airflow's SimpleAuthManager signs them; `nobody` has none."""
    now = int(time.time())
    claims = {
        "sub": f"the-{role}",
        "role": "" if role == "nobody" else role,
        "teams": [],
        "jti": uuid.uuid4().hex,
        "aud": "apache-airflow",
        "iat": now,
        "nbf": now,
        "exp": now + 3600,
    }
    return jwt.encode(claims, lab.stack.secrets["jwt_secret"], algorithm="HS512", headers={"kid": "not-used"})


def browser(lab: Lab, role: str | None) -> httpx.Client:
    """A client with the cookie a browser would have; without one for `None`."""
    cookies = {} if role is None else {"_token": session(lab, role)}
    return httpx.Client(
        base_url=f"{lab.stack.url('airflow')}{PREFIX}", cookies=cookies, timeout=60, trust_env=False
    )


def inside(lab: Lab, program: str) -> str:
    """What a program prints that runs like one of the stack's processes."""
    own = environment(lab.stack, os.environ)
    own["PYTHONPATH"] += f":{lab.root / 'plugins'}"
    done = subprocess.run(
        [sys.executable, "-c", program], env=own, cwd=lab.root, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def routes(lab: Lab) -> list[tuple[str, list[str], bool]]:
    """Every route of the application: its path, its methods, and whether it is open to everybody."""
    found: list[Any] = json.loads(inside(lab, _ROUTES).splitlines()[-1])
    return [(path, methods, is_open) for path, methods, is_open in found]


def text(answer: httpx.Response, status: int = 200) -> str:
    """What a person reads on a page."""
    assert answer.status_code == status, f"{answer.url} {answer.status_code}: {answer.text[:500]}"
    return unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text)))
