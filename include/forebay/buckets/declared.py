"""What a store's buckets should be, as a YAML file says it: versions, what is deleted by age, what nobody may delete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from forebay.errors import JobSpecError
from forebay.source import read_document
from forebay.spec.base import Closed
from forebay.spec.mistakes import validate

BucketName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")]
Days = Annotated[int, Field(ge=1, le=36_500)]


class Keep(Closed):
    """How long nobody deletes what was written (S3's object lock)."""

    days: Days = Field(description="So many days from its writing on.")
    mode: Literal["governance", "compliance"] = Field(
        default="governance",
        description="governance: who has a right of its own for it may shorten it. compliance: nobody may.",
    )


class Bucket(Closed):
    """One bucket."""

    tables: bool = Field(
        default=False, description="It holds tables: then nothing in it may be deleted by age."
    )
    versions_days: Days | None = Field(
        default=None, description="What was replaced or deleted stays as an old version for so many days."
    )
    delete_after_days: dict[str, Days] = Field(
        default={}, description="Objects whose key begins so are deleted after so many days; '*' are all."
    )
    uploads_days: Days | None = Field(
        default=None, description="Uploads in parts that nobody finished are dropped after so many days."
    )
    keep: Keep | None = Field(
        default=None,
        description="How long nobody deletes what was written. Some stores give it only when the bucket is made.",
    )

    @model_validator(mode="after")
    def _tables_lose_nothing(self) -> Bucket:
        if self.tables and self.delete_after_days:
            raise PydanticCustomError(
                "tables",
                "holds tables, so that deleting by age would take files that they still name. Leave delete_after_days out",
            )
        return self

    @property
    def versioned(self) -> bool:
        return self.versions_days is not None or self.keep is not None


class Buckets(Closed):
    """The buckets of one store."""

    buckets: dict[BucketName, Bucket] = Field(description="Each bucket by its name.", min_length=1)


def read(path: Path) -> Buckets:
    """The file's buckets; raises JobSpecError with every mistake in it."""
    document = read_document(path, Path.cwd())
    spec, mistakes = validate(Buckets, document)
    if spec is None:
        raise JobSpecError(mistakes)
    return spec
