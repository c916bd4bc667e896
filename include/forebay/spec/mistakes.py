"""Turns what pydantic found in a document into mistakes a person can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, Tag, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from forebay.errors import Mistake, nearest, suggestion
from forebay.source import MAX_MISTAKES, Document, Step, dotted
from forebay.spec.base import PATTERN_WORDS, Closed

Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], document: Document) -> tuple[Model | None, list[Mistake]]:
    """The document as a `model`, and every mistake in it by position; no model when there is a mistake."""
    try:
        spec = model.model_validate(document.data)
    except ValidationError as error:
        details = error.errors(include_url=False)
    else:
        return (None, list(document.mistakes)) if document.mistakes else (spec, [])
    mistakes = set(document.mistakes)
    # A tag or duplicate key is the cause of whatever else is found at its place.
    places = {(mistake.line, mistake.column) for mistake in mistakes}
    unknown = {
        detail["loc"][:-1]: str(detail["loc"][-1])
        for detail in details
        if detail["type"] == "extra_forbidden"
    }
    for detail in details[: 10 * MAX_MISTAKES]:
        if only_entries_wrong(detail):
            continue
        if detail["type"] == "missing" and detail["loc"][:-1] in unknown:
            near = nearest(unknown[detail["loc"][:-1]], known_keys(model, detail["loc"][:-1]))
            if near == detail["loc"][-1]:
                continue  # the unknown key beside it is this one, misspelt
        mistake = _mistake(model, document, detail)
        if (mistake.line, mistake.column) not in places:
            mistakes.add(mistake)
    first = sorted(mistakes)[:MAX_MISTAKES]
    if len(mistakes) > len(first):
        last = first[-1]
        more = f"{len(mistakes) - len(first)} more mistakes follow. Correct these first."
        first.append(Mistake(last.file, last.line, last.column, "", more))
    return None, first


def only_entries_wrong(detail: ErrorDetails) -> bool:
    """Whether a list is called too short although its entries are there: each has a mistake of its own."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail["ctx"]["min_length"]


def _mistake(model: type[BaseModel], document: Document, detail: ErrorDetails) -> Mistake:
    path, on_key = data_path(document.data, detail["loc"])
    kind, given, context = detail["type"], detail["input"], detail.get("ctx", {})
    if kind == "missing":
        field = next(_fields(model, detail["loc"][:-1], detail["loc"][-1]), None)
        about = f": {field.description}" if field and field.description else ""
        return _at(document, path[:-1], path, f"is missing{about}")
    if kind == "extra_forbidden":
        key, known = str(path[-1]), known_keys(model, detail["loc"][:-1])
        message = f"unknown key '{_short(key)}'.{suggestion(key, known)}"
        for owner in _models(model, detail["loc"][:-1]):
            message = owner.elsewhere.get(key, message) if issubclass(owner, Closed) else message
        return document.mistake(path, message, key=True)
    if kind == "union_tag_invalid":
        names = _quoted(context["expected_tags"])
        tag = context["tag"]
        return document.mistake(
            [*path, "type"], f"unknown task type '{_short(tag)}'.{suggestion(tag, names)}"
        )
    if kind == "union_tag_not_found":
        types = ", ".join(sorted(_task_types()))
        if "type" not in given:
            return _at(document, path, [*path, "type"], f"is missing: one of {types}")
        return document.mistake([*path, "type"], f"must be one of {types}, not {_show(given['type'])}")
    if kind == "field":
        return document.mistake([*path, context["field"]], detail["msg"])
    return document.mistake(path, _message(kind, given, context, detail["msg"]), key=on_key)


def _message(kind: str, given: object, context: Mapping[str, Any], text: str) -> str:
    shown = _show(given)
    if kind == "literal_error":
        names = _quoted(context["expected"])
        return f"unknown value {shown}.{suggestion(str(given), names)}"
    if kind == "string_pattern_mismatch":
        words = PATTERN_WORDS.get(context["pattern"], f"a text that matches {context['pattern']}")
        return f"must be {words}, not {shown}"
    simple = {
        "string_type": "must be text, not {shown}"
        + ("" if isinstance(given, list | dict) else ". Put it in quotes"),
        "int_type": "must be a whole number, not {shown}",
        "bool_type": "must be true or false, not {shown}",
        "tuple_type": "must be a list, not {shown}. Write [a, b], or one '- a' a line",
        "dict_type": "must be a mapping of 'key: value' lines, not {shown}",
        "model_type": "must be a mapping of 'key: value' lines, not {shown}",
        "model_attributes_type": "must be a mapping of 'key: value' lines, not {shown}",
        "greater_than_equal": "must be at least {ge}, not {shown}",
        "less_than_equal": "must be at most {le}, not {shown}",
        "too_short": "needs at least one entry",
        "string_too_short": "must not be empty",
        "string_too_long": "must have at most {max_length} characters",
        "finite_number": "must be a finite number, not {shown}",
    }.get(kind)
    if simple:
        return simple.format(shown=shown, **context)
    return text if kind in ("for_each", "sql") else f"{text}, not {shown}"


def _at(document: Document, place: Sequence[Step], where: Sequence[Step], message: str) -> Mistake:
    line, column = document.place(place)
    return Mistake(document.file, line, column, dotted(where), message)


def data_path(data: object, location: Sequence[Step]) -> tuple[list[Step], bool]:
    """The path in the data of a pydantic location (it names union members too); whether it means a key."""
    path: list[Step] = []
    here: Any = data
    for position, step in enumerate(location):
        if step == "[key]":
            return path, True
        if isinstance(here, dict):
            tagged = position == 2 and location[0] == "tasks" and here.get("type") == step
            if tagged or (isinstance(step, str) and step.startswith("<") and position < len(location) - 1):
                continue
            path.append(step)
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int):
            path.append(step)
            here = here[step] if step < len(here) else None
        # Anything else steps into a short form (schedule: "0 5 * * *"): the mistake is at the value.
    return path, False


def known_keys(model: type[BaseModel], location: Sequence[Step]) -> list[str]:
    """The keys that a mapping at `location` may have."""
    return [
        field.alias or name
        for found in _models(model, location)
        for name, field in found.model_fields.items()
    ]


def _fields(model: type[BaseModel], location: Sequence[Step], name: Step) -> Iterator[FieldInfo]:
    for found in _models(model, location):
        yield from (f for key, f in found.model_fields.items() if (f.alias or key) == name)


def _models(model: type[BaseModel], location: Sequence[Step]) -> list[type[BaseModel]]:
    """The models that a mapping at a pydantic location may be of."""
    types = _types(model, location)
    return [found for found in types if isinstance(found, type) and issubclass(found, BaseModel)]


def _types(model: object, location: Sequence[Step]) -> list[object]:
    """The types a value at a pydantic location may have."""
    here = _members(model)
    for step in location:
        below: list[object] = []
        for kind in here:
            origin, args = get_origin(kind), get_args(kind)
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                if (literal := kind.model_fields.get("type")) and get_args(literal.annotation) == (step,):
                    below.append(kind)
                else:
                    fields = (f for key, f in kind.model_fields.items() if (f.alias or key) == step)
                    below.extend(member for f in fields for member in _members(f.annotation))
            elif origin is tuple and isinstance(step, int):
                below.extend(_members(args[0]))
            elif origin is dict:
                below.extend(_members(args[1]))
            elif origin is Annotated and any(isinstance(x, Tag) and x.tag == step for x in args[1:]):
                below.extend(_members(args[0]))
        here = below
    return [get_args(kind)[0] if get_origin(kind) is Annotated else kind for kind in here]


def _members(kind: object) -> list[object]:
    """The members of a union; one with a Tag stays annotated, so that the location's step can choose it."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        if any(isinstance(extra, Tag) for extra in args[1:]):
            return [kind]
        return _members(args[0])
    if origin in (Union, UnionType):
        return [member for arg in args for member in _members(arg)]
    return [kind]


def _task_types() -> list[str]:
    from forebay.tasks import TASK_TYPES

    return list(TASK_TYPES)


def _quoted(text: str) -> list[str]:
    return re.findall(r"'([^']*)'", text)


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "…"


def _show(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return "a list"
    if isinstance(value, dict):
        return "a mapping"
    return repr(_short(value)) if isinstance(value, str) else _short(value)
