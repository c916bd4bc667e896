"""Where the lake is and how to log in to it: one value from which every engine gets its own settings."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from forebay.errors import ForebayError
from forebay.sqlquote import literal

if TYPE_CHECKING:
    from pyiceberg.catalog.rest import RestCatalog

    from forebay.lake.identity import TaskTry

CATALOG = "lake"


def _address(value: object) -> str:
    """An address without a login in it: catalog and store take the connection's own, and addresses are shown to readers."""
    return re.sub(r"^([^/?#]*//)?[^/?#]*@", r"\1", str(value or "")).rstrip("/")


def _no_login(auth: object) -> bool:
    """From Iceberg's own property `rest.auth.type`. Raises LakeError for a type that is not known here."""
    if auth in (None, "", "oauth2", "none"):
        return auth == "none"
    raise LakeError(f"The catalog connection's rest.auth.type is {auth!r}. Known: oauth2, none.")


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
    client_id: str = ""
    """Who logs in to the catalog; the store's key where it is the same."""
    client_secret: str = field(default="", repr=False)
    scope: str = "catalog"
    """What the token is asked for."""
    no_login: bool = False
    """Whether the catalog asks nobody for a login, as Lakekeeper without a provider of identities."""

    @property
    def token_uri(self) -> str:
        """Where tokens are issued; empty where nobody needs one."""
        return "" if self.no_login else self.oauth_uri or f"{self.uri}/v1/oauth/tokens"

    @property
    def credential(self) -> tuple[str, str]:
        """Id and secret for the catalog."""
        return self.client_id or self.access_key, self.client_secret or self.secret_key

    def login(self) -> dict[str, str]:
        """The form that asks for a token (RFC 6749 §4.4). Holds the secret: never log it."""
        client, secret = self.credential
        return {
            "grant_type": "client_credentials",
            "client_id": client,
            "client_secret": secret,
            "scope": self.scope,
        }

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
            uri=_address(host),
            warehouse=str(extra["warehouse"]),
            access_key=str(extra.get("s3.access-key-id") or login),
            secret_key=str(extra.get("s3.secret-access-key") or password),
            s3_endpoint=_address(extra["s3.endpoint"]),
            s3_region=str(extra.get("s3.region") or "us-east-1"),
            path_style=str(extra.get("s3.path-style-access", "true")).lower() == "true",
            oauth_uri=_address(extra.get("oauth2-server-uri")),
            lens=_address(extra.get("lens")),
            client_id=str(login) if extra.get("s3.access-key-id") else "",
            client_secret=str(password) if extra.get("s3.secret-access-key") else "",
            scope=str(extra.get("scope") or "catalog"),
            no_login=_no_login(extra.get("rest.auth.type")),
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
        """The text without this connection's secrets in it."""
        # The longer one first: it may hold the other.
        for secret in sorted(filter(None, (self.secret_key, self.client_secret)), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

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
        client, password = map(literal, self.credential)
        how = "AUTHORIZATION_TYPE 'none'" if self.no_login else "SECRET lake_catalog"
        secrets = [
            f"CREATE SECRET lake_s3 (TYPE s3, KEY_ID {key}, SECRET {secret}, ENDPOINT {literal(endpoint[2])}, "
            f"USE_SSL {tls}, URL_STYLE {literal(style)}, REGION {literal(self.s3_region)})",
        ]
        if not self.no_login:
            secrets.append(
                f"CREATE SECRET lake_catalog (TYPE iceberg, CLIENT_ID {client}, CLIENT_SECRET {password}, "
                f"OAUTH2_SERVER_URI {literal(self.token_uri)}, OAUTH2_SCOPE {literal(self.scope)})"
            )
        return [
            *secrets,
            # By the connection's key: of one that comes with a table DuckDB takes neither endpoint nor region.
            f"ATTACH {literal(self.warehouse)} AS {CATALOG} (TYPE iceberg, ENDPOINT {literal(self.uri)}, "
            f"{how}, ACCESS_DELEGATION_MODE 'none'{', READ_ONLY' if read_only else ''})",
        ]

    def pyiceberg_properties(self) -> dict[str, object]:
        """PyIceberg's properties of this catalog. Holds the secret: never log it."""
        login: dict[str, object] = {
            "credential": ":".join(self.credential),
            "scope": self.scope,
            "oauth2-server-uri": self.token_uri,
        }
        return {
            "uri": self.uri,
            "warehouse": self.warehouse,
            # Left out, it would send a token named None.
            **({"auth": {"type": "noop"}} if self.no_login else login),
            "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
            "s3.endpoint": self.s3_endpoint,
            "s3.region": self.s3_region,
            "s3.access-key-id": self.access_key,
            "s3.secret-access-key": self.secret_key,
            "s3.force-virtual-addressing": str(not self.path_style).lower(),
        }

    def spark_conf(self) -> dict[str, str]:
        """Spark settings that make this catalog `lake` and the default. Holds the secret: never log it."""
        prefix = f"spark.sql.catalog.{CATALOG}"
        login = {
            f"{prefix}.credential": ":".join(self.credential),
            f"{prefix}.scope": self.scope,
            f"{prefix}.oauth2-server-uri": self.token_uri,
        }
        return {
            "spark.sql.extensions": "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions",
            "spark.sql.defaultCatalog": CATALOG,
            prefix: "org.apache.iceberg.spark.SparkCatalog",
            f"{prefix}.type": "rest",
            f"{prefix}.uri": self.uri,
            f"{prefix}.warehouse": self.warehouse,
            f"{prefix}.rest.auth.type": "none" if self.no_login else "oauth2",
            **({} if self.no_login else login),
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
    properties = config.pyiceberg_properties() | {"py-io-impl": "forebay.lake.file_io.LakeFileIO"}
    # It takes more than the text it is declared with.
    return RestCatalog(CATALOG, **cast("dict[str, str]", properties))
