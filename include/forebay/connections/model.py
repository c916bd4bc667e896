"""What a connection is, what one step of its check found, and the report over all steps."""

from __future__ import annotations

import base64
import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal
from urllib.parse import quote, unquote, urlsplit

State = Literal["ok", "warn", "bad", "skipped"]
Side = Literal["server", "worker"]
"""Where a check ran: on the API server, or where tasks run."""

_DEPTH = 50
_SENSITIVE = re.compile(r"pass|secret|token|credential|key|auth|jaas|private|cookie", re.IGNORECASE)
_PLAIN = re.compile(r"^(true|false|none|null|\d{1,5}|plain|basic|oauth2?)$", re.IGNORECASE)
_SHORTEST = 4
_LONGEST = 400


@dataclass(frozen=True)
class Connection:
    """The fields of an Airflow connection. Its secrets never show in a repr."""

    conn_id: str
    conn_type: str
    host: str = field(default="", repr=False)
    port: int | None = None
    schema: str = ""
    login: str = ""
    password: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        conn_id: str,
        conn_type: str,
        *,
        host: str | None = None,
        port: int | None = None,
        schema: str | None = None,
        login: str | None = None,
        password: str | None = None,
        extra: str | Mapping[str, Any] | None = None,
    ) -> Connection:
        """From fields as they are stored: None for empty, `extra` as JSON. Extra that is no JSON object counts as empty."""
        values = extra
        if isinstance(extra, str):
            try:
                values = _read(extra) if extra.strip() else {}
            except ValueError:
                values = {}
        return cls(
            conn_id, conn_type or "generic", (host or "").strip(), port, schema or "", login or "", password or "",
            values if isinstance(values, Mapping) else {},
        )  # fmt: skip

    def text(self, *names: str) -> str:
        """The first of these that `extra` has as text; empty where it has none."""
        for name in names:
            value = self.extra.get(name)
            if isinstance(value, str | int | float) and not isinstance(value, bool) and str(value):
                return str(value)
        return ""

    def flag(self, name: str) -> bool | None:
        """A yes or no of `extra`, None where it says neither."""
        value = str(self.extra.get(name, "")).lower()
        return {"true": True, "1": True, "false": False, "0": False}.get(value)

    def secrets(self) -> tuple[str, ...]:
        """Everything of it that must not be seen, in each form in which it may travel, longest first."""
        found = {self.password, *_hidden(self.extra)}
        for address in (self.host, *_texts(self.extra)):
            if "@" not in address:
                continue
            with contextlib.suppress(ValueError):
                named = urlsplit(address if "://" in address else f"//{address}").password or ""
                found |= {named, unquote(named)}
        found = {each for each in found if len(each) >= _SHORTEST and not _PLAIN.match(each)}
        forms = {form for each in found for form in (each, quote(each, safe=""), json.dumps(each)[1:-1])}
        forms |= {base64.b64encode(f"{self.login}:{each}".encode()).decode() for each in found}
        return tuple(sorted(forms, key=len, reverse=True))

    def clean(self, text: str) -> str:
        """A text from outside, without secrets and control characters, and not longer than a paragraph."""
        for secret in self.secrets():
            text = text.replace(secret, "***")
        text = re.sub(r"[\x00-\x1f\x7f\u200b-\u200f\u2028-\u202f\u2066-\u2069]+", " ", text).strip()
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


@dataclass(frozen=True)
class Step:
    """What one step found. `seconds` is None for a step that was not tried."""

    key: str
    title: str
    state: State
    seconds: float | None = None
    found: str = ""
    hint: str = ""
    """What mends it; empty where nothing is wrong."""


@dataclass(frozen=True)
class Report:
    """A whole check. Its state is that of its worst step; `facts` are what was learned on the way."""

    conn_id: str
    conn_type: str
    state: State
    steps: tuple[Step, ...]
    facts: Mapping[str, str]
    seconds: float
    at: float
    where: str = ""
    side: Side = "server"

    @property
    def word(self) -> str:
        """The result in a few words."""
        worst = self.worst
        if worst is None:
            return "works"
        return worst.found or worst.title

    @property
    def worst(self) -> Step | None:
        """The step to look at first; None where all is well."""
        for state in ("bad", "warn"):
            for step in self.steps:
                if step.state == state:
                    return step
        return None

    def document(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        return {**asdict(self), "word": self.word}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Report:
        """The report that a document was made from."""
        values = {name: document[name] for name in cls.__dataclass_fields__ if name in document}
        return cls(**{**values, "steps": tuple(Step(**each) for each in document["steps"])})


def cleaned(step: Step, connection: Connection) -> Step:
    """The step without anything secret in its texts."""
    return replace(
        step,
        title=connection.clean(step.title),
        found=connection.clean(step.found),
        hint=connection.clean(step.hint),
    )


def _read(text: str) -> Any:
    """JSON as a connection may hold it. Raises ValueError, also for what is nested more deeply than anybody means."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    level = [found]
    for _ in range(_DEPTH):
        inner = [
            list(each.values()) if isinstance(each, dict) else each
            for each in level
            if isinstance(each, dict | list)
        ]
        if not inner:
            return found
        level = [value for values in inner for value in values]
    raise ValueError("nested too deeply")


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)
    elif isinstance(value, str):
        yield value
        if value.lstrip().startswith(("{", "[")):
            try:
                yield from _texts(_read(value))
            except ValueError:
                return


def _hidden(values: object, sensitive: bool = False) -> Iterator[str]:
    if isinstance(values, str) and values.lstrip().startswith(("{", "[")):
        with contextlib.suppress(ValueError):
            yield from _hidden(_read(values), sensitive)
    if isinstance(values, Mapping):
        for name, value in values.items():
            # Where something is looked up is no secret, whatever the name has in it.
            known = sensitive or bool(_SENSITIVE.search(str(name)))
            if isinstance(value, str) and value.startswith(("http://", "https://")):
                continue
            yield from _hidden(value, known)
    elif isinstance(values, list):
        for each in values:
            yield from _hidden(each, sensitive)
    elif sensitive and values is not None and not isinstance(values, bool):
        yield str(values)
        # A bearer or basic header is "<scheme> <secret>".
        yield str(values).rpartition(" ")[2]
