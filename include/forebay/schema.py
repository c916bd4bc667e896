"""JSON Schemas of workspace.yaml and of a job's YAML, for editors."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from forebay.spec.job import JobSpec
from forebay.spec.workspace import WorkspaceSpec

SchemaName = Literal["job", "workspace"]
_MODELS: dict[str, tuple[type[BaseModel], str]] = {
    "job": (JobSpec, "A job of Forebay"),
    "workspace": (WorkspaceSpec, "A workspace of Forebay"),
}


class _Plain(GenerateJsonSchema):
    """Without the titles pydantic makes up: an editor would show them before the description."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def json_schema(name: SchemaName) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of one of the two files."""
    model, title = _MODELS[name]
    schema = model.model_json_schema(by_alias=True, schema_generator=_Plain)
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": title}


def schema_text(name: SchemaName) -> str:
    """The same as the text that is committed in docs/schema/."""
    return json.dumps(json_schema(name), indent=2, ensure_ascii=False) + "\n"
