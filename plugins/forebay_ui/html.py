"""Pages as HTML: templates that escape everything, and what numbers, times and links look like."""

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from fastapi import Request
from fastapi.responses import HTMLResponse
from markupsafe import Markup

from forebay.lake.branch import moment as told

HERE = Path(__file__).parent
STATIC = HERE / "static"

# No script and no style but our own files, nobody else's frame, forms only to ourselves.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "font-src 'self'; form-action 'self'; frame-ancestors 'self'; base-uri 'none'"
)
_RUN = re.compile(r"([a-z_]+?)__(\d{4}-\d\d-\d\d)T(\d\d:\d\d)")

HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "same-origin",
}


def render(request: Request, template: str, *, status: int = 200, **context: Any) -> HTMLResponse:
    """A page. `context` is what its template shows.

    To somebody without a session the page carries its style itself, for they may not have our files.
    """
    style = Markup(_style()) if status == 401 else ""
    text = environment().get_template(template).render(shared(request), **context, style=style)
    answer = HTMLResponse(text, status_code=status)
    if status == 401:
        digest = b64encode(hashlib.sha256(_style().encode()).digest()).decode()
        answer.headers["content-security-policy"] = POLICY.replace(
            "style-src 'self'", f"style-src 'sha256-{digest}'"
        )
    return answer


def shared(request: Request) -> dict[str, Any]:
    """What every template may use: addresses, ours and Airflow's."""
    root = str(request.scope.get("root_path", ""))
    return {
        "root": root,
        # Airflow's own pages, beside ours.
        "airflow": root.rpartition("/")[0],
        "request": request,
        "here": request.url.path.removeprefix(root),
        "static": lambda name: f"{root}/static/{name}?v={_version(name)}",
    }


@lru_cache(maxsize=1)
def _style() -> str:
    return (STATIC / "console.css").read_text()


@lru_cache(maxsize=1)
def environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        ago=ago,
        moment=moment,
        count=count,
        size=size,
        milliseconds=milliseconds,
        segment=segment,
        query=query,
        run_name=run_name,
        capital=capital,
        epoch=epoch,
    )
    environment.globals.update(run_link=run_link)
    return environment


@lru_cache(maxsize=64)
def _version(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:10]


def segment(value: object) -> str:
    """A name as one part of a path."""
    return quote(str(value), safe="")


def query(values: Mapping[str, object]) -> str:
    """What comes behind the question mark; empty values are left out."""
    return urlencode({name: value for name, value in values.items() if value not in (None, "")})


def run_name(run: str) -> str:
    """A run's id as people say it; one that somebody made up stays as it is."""
    found = _RUN.match(run)
    if not found:
        return run if len(run) <= 40 else f"{run[:39]}…"
    kind, day, clock = found.groups()
    return f"{kind.replace('_', ' ')} {day} {clock}"


def capital(text: str) -> str:
    """The text as a sentence begins."""
    return text[:1].upper() + text[1:]


def run_link(job: str, run: str) -> str:
    """Airflow's page of a run, below Airflow's own address."""
    return f"dags/{segment(job)}/runs/{segment(run.partition('#')[0])}"


def count(number: int | float | None) -> str:
    """A number with its thousands apart; a dash where it is not known."""
    return "–" if number is None else f"{number:,}"


def size(number: int | float | None) -> str:
    """Bytes as people say them."""
    if number is None:
        return "–"
    value = float(number)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:,.1f} PB"


def milliseconds(seconds: float | None) -> str:
    """How long something took."""
    if seconds is None:
        return "–"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def moment(at: float | None) -> str:
    """A moment to the second, in UTC."""
    return "" if at is None else told(at)


def epoch(text: object) -> float | None:
    """A moment as Airflow writes it, in seconds since 1970."""
    return datetime.fromisoformat(str(text)).timestamp() if text else None


def ago(at: float | None) -> Markup:
    """How long ago, exact on hover."""
    if at is None:
        return Markup("–")
    try:
        exact = datetime.fromtimestamp(at, UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        # A table's or a query's own word, which may be any number.
        return Markup('<span title="{}">?</span>').format(moment(at))
    return Markup('<time datetime="{}" title="{}">{}</time>').format(
        exact, moment(at), _ago(datetime.now(UTC).timestamp() - at)
    )


def _ago(seconds: float) -> str:
    if seconds < 45:
        return "just now" if seconds < 5 else f"{seconds:.0f} s ago"
    for size_of, unit in ((60, "min"), (3600, "h"), (86400, "day")):
        limit = {"min": 3600, "h": 86400, "day": 86400 * 60}[unit]
        if seconds < limit:
            number = max(1, round(seconds / size_of))
            return f"{number} {unit}{'s' if unit == 'day' and number > 1 else ''} ago"
    return f"{seconds / 86400 / 30:.0f} months ago"
