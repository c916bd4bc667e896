"""Where the lake is and how to log in to it: one value from which every engine gets its own settings."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from forebay.errors import ForebayError
from forebay.sqlquote import literal

if TYPE_CHECKING:
    from pyiceberg.catalog.rest import RestCatalog

    from forebay.lake.identity import TaskTry

CATALOG = "lake"


class LakeError(ForebayError):
    """The lake cannot do what was asked; the text says what and why."""


class DeletedByValue(LakeError):
    """PyIceberg and DuckDB do not read the table: it has equality deletes."""


@dataclass(frozen=True)
class CatalogConfig:
    """An Iceberg REST catalog and the S3 store below it. The secret never shows in a repr."""

    uri: str
    warehouse: str
    access_key: str
    secret_key: str = field(repr=False)
    s3_endpoint: str
    s3_region: str = "us-east-1"
    path_style: bool = True
    oauth_uri: str = ""
    """Where tokens are issued; by default below `uri`."""
    lens: str = ""
    """Where the lens answers: the catalog as one run sees it. Empty where there is none."""

    @property
    def token_uri(self) -> str:
        return self.oauth_uri or f"{self.uri}/v1/oauth/tokens"

    def at(self, uri: str) -> CatalogConfig:
        """The same lake seen through another catalog address; tokens still come from this one."""
        return replace(self, uri=uri.rstrip("/"), oauth_uri=self.token_uri)

    def seen_by(self, who: TaskTry) -> CatalogConfig:
        """The lake as this try of a task sees it: its run's branch as main."""
        if not self.lens:
            raise LakeError(
                "The catalog connection names no lens, and a run writes its tables through one. Add it to the "
                'connection\'s extra: {"lens": "http://127.0.0.1:8182"}.'
            )
        return self.at(f"{self.lens}/run/{who.segment()}")

    def main(self) -> CatalogConfig:
        """The catalog as it is, through the lens where there is one: there writers of one table take turns."""
        return self.at(f"{self.lens}/main") if self.lens else self

    def published(self) -> CatalogConfig:
        """The lake without what runs have not published, where there is a lens."""
        return self.at(f"{self.lens}/published") if self.lens else self

    @classmethod
    def from_connection(
        cls, host: str | None, login: str | None, password: str | None, extra: Mapping[str, object]
    ) -> CatalogConfig:
        """From the fields of an Airflow connection of type `iceberg`."""
        values = {
            "host": host,
            "login": login,
            "password": password,
            "extra.warehouse": extra.get("warehouse"),
            "extra.s3.endpoint": extra.get("s3.endpoint"),
        }
        if missing := [name for name, value in values.items() if not value]:
            raise LakeError(f"The catalog connection lacks {', '.join(missing)}.")
        return cls(
            uri=str(host).rstrip("/"),
            warehouse=str(extra["warehouse"]),
            access_key=str(login),
            secret_key=str(password),
            s3_endpoint=str(extra["s3.endpoint"]).rstrip("/"),
            s3_region=str(extra.get("s3.region") or "us-east-1"),
            path_style=str(extra.get("s3.path-style-access", "true")).lower() == "true",
            oauth_uri=str(extra.get("oauth2-server-uri") or ""),
            lens=str(extra.get("lens") or "").rstrip("/"),
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> CatalogConfig:
        """From FOREBAY_CATALOG_URI, FOREBAY_S3_ENDPOINT, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY."""
        env = os.environ if environ is None else environ
        return cls.from_connection(
            env.get("FOREBAY_CATALOG_URI"),
            env.get("AWS_ACCESS_KEY_ID"),
            env.get("AWS_SECRET_ACCESS_KEY"),
            {
                "warehouse": env.get("FOREBAY_WAREHOUSE", "warehouse"),
                "s3.endpoint": env.get("FOREBAY_S3_ENDPOINT"),
                "s3.region": env.get("AWS_REGION", "us-east-1"),
            },
        )

    def redact(self, text: str) -> str:
        """The text without this connection's secret in it."""
        return text.replace(self.secret_key, "***") if self.secret_key else text

    def pyiceberg(self) -> RestCatalog:
        """The catalog as PyIceberg sees it; one per process and connection, so one token request."""
        with self.reached():
            return _pyiceberg(self, os.getpid())

    @contextlib.contextmanager
    def reached(self) -> Iterator[None]:
        """Turns what PyIceberg raises when catalog or store does not give what was asked for into a sentence."""
        from pyarrow import ArrowException
        from pyiceberg.exceptions import RESTError
        from requests import RequestException

        address = "/".join(self.uri.split("/")[:3])
        what = f"The {'lens' if address == self.lens else 'catalog'} at {address}"
        try:
            yield
        except RequestException as error:
            raise LakeError(
                f"{what} does not answer ({type(error).__name__}). Is it up? forebay status"
            ) from None
        except RESTError as error:
            raise LakeError(f"{what} refuses ({type(error).__name__}): {self._said(error)}") from None
        except FileNotFoundError as error:
            missing = re.search(r"'(.+?)'", str(error))
            raise LakeError(
                f"The store at {self.s3_endpoint} has no file {missing[1] if missing else self._said(error)}, which the "
                "table needs. Restore it, or take the table back to a snapshot from before it."
            ) from None
        except OSError as error:
            if "NETWORK_CONNECTION" in str(error):
                said = "does not answer. Is it up? forebay status"
            else:
                said = f"cannot be read: {self._said(error)}"
            raise LakeError(f"The store at {self.s3_endpoint} {said}") from None
        except ArrowException as error:
            raise LakeError(f"A file of the table cannot be read: {self._said(error)}") from None
        except ValueError as error:
            if "equality deletes" not in str(error):
                raise
            raise DeletedByValue(
                "The table has deletes by value, which only Spark and Trino read. Ask one of them."
            ) from None

    def _said(self, error: Exception) -> str:
        return self.redact(" ".join(str(error).split()))[:300]

    def duckdb_statements(self, *, read_only: bool = False) -> list[str]:
        """What DuckDB runs to have the catalog attached as `lake`. Holds the secret: never log it."""
        endpoint = self.s3_endpoint.partition("://")
        tls = "true" if endpoint[0] == "https" else "false"
        style = "path" if self.path_style else "vhost"
        key, secret = literal(self.access_key), literal(self.secret_key)
        return [
            f"CREATE SECRET lake_s3 (TYPE s3, KEY_ID {key}, SECRET {secret}, ENDPOINT {literal(endpoint[2])}, "
            f"USE_SSL {tls}, URL_STYLE {literal(style)}, REGION {literal(self.s3_region)})",
            f"CREATE SECRET lake_catalog (TYPE iceberg, CLIENT_ID {key}, CLIENT_SECRET {secret}, "
            f"OAUTH2_SERVER_URI {literal(self.token_uri)}, OAUTH2_SCOPE 'catalog')",
            f"ATTACH {literal(self.warehouse)} AS {CATALOG} "
            f"(TYPE iceberg, ENDPOINT {literal(self.uri)}, SECRET lake_catalog{', READ_ONLY' if read_only else ''})",
        ]

    def pyiceberg_properties(self) -> dict[str, str]:
        """PyIceberg's properties of this catalog. Holds the secret: never log it."""
        return {
            "uri": self.uri,
            "warehouse": self.warehouse,
            "credential": f"{self.access_key}:{self.secret_key}",
            "scope": "catalog",
            "oauth2-server-uri": self.token_uri,
            "py-io-impl": "forebay.lake.fileio.LakeFileIO",
            "s3.endpoint": self.s3_endpoint,
            "s3.region": self.s3_region,
            "s3.access-key-id": self.access_key,
            "s3.secret-access-key": self.secret_key,
            "s3.force-virtual-addressing": str(not self.path_style).lower(),
        }

    def spark_conf(self) -> dict[str, str]:
        """Spark settings that make this catalog `lake` and the default. Holds the secret: never log it."""
        prefix = f"spark.sql.catalog.{CATALOG}"
        return {
            "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
            "spark.sql.defaultCatalog": CATALOG,
            prefix: "org.apache.iceberg.spark.SparkCatalog",
            f"{prefix}.type": "rest",
            f"{prefix}.uri": self.uri,
            f"{prefix}.warehouse": self.warehouse,
            f"{prefix}.rest.auth.type": "oauth2",
            f"{prefix}.credential": f"{self.access_key}:{self.secret_key}",
            f"{prefix}.scope": "catalog",
            f"{prefix}.oauth2-server-uri": self.token_uri,
            f"{prefix}.io-impl": "org.apache.iceberg.aws.s3.S3FileIO",
            f"{prefix}.s3.endpoint": self.s3_endpoint,
            f"{prefix}.s3.path-style-access": str(self.path_style).lower(),
            f"{prefix}.s3.access-key-id": self.access_key,
            f"{prefix}.s3.secret-access-key": self.secret_key,
            f"{prefix}.client.region": self.s3_region,
            # The default cache keeps showing a table's old snapshots to a second session.
            f"{prefix}.cache-enabled": "false",
        }


# The process id is part of the key: a forked task must not share its parent's sockets.
@lru_cache(maxsize=8)
def _pyiceberg(config: CatalogConfig, _process: int) -> RestCatalog:
    from pyiceberg.catalog.rest import RestCatalog

    # It says with each table it loads how it reads files.
    logging.getLogger("pyiceberg.io").setLevel(logging.WARNING)
    return RestCatalog(CATALOG, **config.pyiceberg_properties())
