"""An S3 store as commands use it: buckets, their settings, objects in parts. Any store that speaks S3 will do."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any
from urllib.parse import quote, urlencode

import httpx

from forebay.connections.model import Connection
from forebay.connections.s3 import S3
from forebay.connections.types.aws import store_of
from forebay.errors import ForebayError
from forebay.lake.rest import trust

ATTEMPTS = 5
_AGAIN = (500, 502, 503, 504)
_NAMESPACE = re.compile(r"^\{[^}]*\}")


class StoreError(ForebayError):
    """The store does not answer or refuses; the text says which store, and what to look at."""


@dataclass(frozen=True)
class Object:
    """One object of a bucket."""

    key: str
    size: int
    changed: str
    """When it was written, by the store's clock: ISO 8601, in UTC."""


class Store:
    """A client of one store, for `with`; threads may share it. Raises StoreError."""

    def __init__(self, s3: S3, name: str = "", *, timeout: float = 120.0) -> None:
        self.s3, self.name = s3, name or s3.endpoint
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout, connect=5.0), verify=trust(s3.endpoint), trust_env=False
        )

    @classmethod
    def of(cls, connection: Connection) -> Store:
        """The store of an Airflow connection of type `aws`."""
        if connection.conn_type not in ("aws", "s3"):
            raise StoreError(
                f"{connection.conn_id} is a connection of type {connection.conn_type or 'none'}. Name one of type aws."
            )
        return cls(store_of(connection), connection.conn_id)

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def buckets(self) -> list[str]:
        return [text(each, "Name") for each in self.document("GET").iter("Bucket")]

    def exists(self, bucket: str) -> bool:
        answer = self.send("HEAD", bucket, allowed=(404,))
        return answer.status_code != 404

    def make(self, bucket: str, *, lock: bool = False) -> None:
        """Makes a bucket; with `lock` one whose objects can be kept from deletion, which some stores do not give later."""
        region = self.s3.region
        place = (
            ""
            if region == "us-east-1"
            else f"<CreateBucketConfiguration><LocationConstraint>{region}</LocationConstraint></CreateBucketConfiguration>"
        )
        headers = {"x-amz-bucket-object-lock-enabled": "true"} if lock else {}
        self.send("PUT", bucket, body=place.encode(), headers=headers)

    def setting(self, bucket: str, name: str) -> ElementTree.Element | None:
        """What a bucket's setting (`versioning`, `lifecycle`, `object-lock`) says; None where there is none."""
        answer = self.send("GET", bucket, query={name: ""}, allowed=(404,))
        return None if answer.status_code == 404 else parsed(answer)

    def set(self, bucket: str, name: str, document: str) -> None:
        body = document.encode()
        self.send("PUT", bucket, query={name: ""}, body=body, headers=_checksum(body))

    def unset(self, bucket: str, name: str) -> None:
        self.send("DELETE", bucket, query={name: ""}, allowed=(404,))

    def objects(self, bucket: str, prefix: str = "") -> Iterator[Object]:
        """Every object, by key."""
        query = {"list-type": "2", "encoding-type": "url", "prefix": prefix}
        while True:
            found = self.document("GET", bucket, query=query)
            encoded = text(found, "EncodingType") == "url"
            for each in found.iter("Contents"):
                key = text(each, "Key")
                yield Object(
                    _decoded(key) if encoded else key,
                    int(text(each, "Size") or 0),
                    text(each, "LastModified"),
                )
            if text(found, "IsTruncated") != "true":
                return
            query = {**query, "continuation-token": text(found, "NextContinuationToken")}

    def read(self, bucket: str, key: str, begin: int, length: int) -> bytes:
        """A piece of an object."""
        if not length:
            return b""
        headers = {"range": f"bytes={begin}-{begin + length - 1}"}
        content = self.send("GET", bucket, key, headers=headers).content
        if len(content) != length:
            raise StoreError(
                f"The store {self.name} gave {len(content)} bytes of {bucket}/{key}, not {length}: it changed just now."
            )
        return content

    def about(self, bucket: str, key: str) -> dict[str, str]:
        """The headers of an object that go with it: its type and what its writer noted."""
        headers = self.send("HEAD", bucket, key).headers
        kept = ("content-type", "content-encoding", "content-disposition", "cache-control")
        return {
            name: value for name, value in headers.items() if name in kept or name.startswith("x-amz-meta-")
        }

    def write(self, bucket: str, key: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """A whole object. The store refuses it where another content arrives: its digest is signed."""
        self.send("PUT", bucket, key, body=body, headers={**(headers or {}), **_checksum(body)})

    def begin(self, bucket: str, key: str, headers: Mapping[str, str]) -> str:
        """Begins an object in parts."""
        answer = self.send("POST", bucket, key, query={"uploads": ""}, headers=dict(headers))
        return text(parsed(answer), "UploadId")

    def part(self, bucket: str, key: str, upload: str, number: int, body: bytes) -> str:
        query = {"partNumber": str(number), "uploadId": upload}
        return self.send("PUT", bucket, key, query=query, body=body, headers=_checksum(body)).headers["etag"]

    def end(self, bucket: str, key: str, upload: str, parts: Sequence[str]) -> None:
        listed = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{tag}</ETag></Part>"
            for number, tag in enumerate(parts, 1)
        )
        body = f"<CompleteMultipartUpload>{listed}</CompleteMultipartUpload>".encode()
        answer = self.send("POST", bucket, key, query={"uploadId": upload}, body=body)
        # A store may fail after it has begun to answer.
        if (document := parsed(answer)).tag == "Error":
            raise self._refused(answer, f"{bucket}/{key}", text(document, "Message"))

    def drop(self, bucket: str, key: str, upload: str) -> None:
        """Gives an object in parts up."""
        self.send("DELETE", bucket, key, query={"uploadId": upload}, allowed=(404,))

    def document(self, method: str, bucket: str = "", **what: Any) -> ElementTree.Element:
        return parsed(self.send(method, bucket, **what))

    def send(
        self,
        method: str,
        bucket: str = "",
        key: str = "",
        *,
        query: Mapping[str, str] | None = None,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        allowed: Sequence[int] = (),
    ) -> httpx.Response:
        """One request, repeated where the store is busy; every request here may be."""
        url = self.s3.url(bucket, key)
        if query:
            url += "?" + urlencode(sorted(query.items()), quote_via=quote, safe="-_.~")
        for attempt in range(ATTEMPTS):
            signed = self.s3.signed(method, url, body, dict(headers or {}))
            try:
                answer = self._client.request(method, url, content=body, headers=signed)
            except httpx.HTTPError as error:
                if attempt + 1 == ATTEMPTS:
                    why = type(error).__name__
                    raise StoreError(
                        f"The store {self.name} at {self.s3.endpoint} does not answer ({why}). Is it up?"
                    ) from None
            else:
                if answer.status_code not in _AGAIN or attempt + 1 == ATTEMPTS:
                    break
            time.sleep(0.2 * 2**attempt)
        if answer.is_error and answer.status_code not in allowed:
            raise self._refused(answer, "/".join(filter(None, (bucket, key))) or "the list of buckets")
        return answer

    def _refused(self, answer: httpx.Response, what: str, said: str = "") -> StoreError:
        code = re.search(r"<Code>([^<]*)</Code>", answer.text)
        message = re.search(r"<Message>([^<]*)</Message>", answer.text)
        why = said or ": ".join(found[1] for found in (code, message) if found)
        return StoreError(
            f"The store {self.name} at {self.s3.endpoint} refused {what} (HTTP {answer.status_code}"
            f"{', ' + why if why else ''}). Check its connection: key, rights and bucket."
        )


def connection(name: str, environ: Mapping[str, str] | None = None) -> Connection | None:
    """A connection from Airflow's own variable AIRFLOW_CONN_<NAME>, None where it is not set."""
    given = (os.environ if environ is None else environ).get(variable(name))
    if given is None:
        return None
    try:
        values = json.loads(given)
        if not isinstance(values, dict):
            raise ValueError("no object")
    except ValueError:
        raise StoreError(f"{variable(name)} is not a connection as JSON. Write it so.") from None
    return Connection.of(
        name,
        str(values.get("conn_type") or ""),
        host=values.get("host"),
        port=values.get("port"),
        schema=values.get("schema"),
        login=values.get("login"),
        password=values.get("password"),
        extra=values.get("extra"),
    )


def variable(name: str) -> str:
    return f"AIRFLOW_CONN_{name.upper()}"


def parsed(answer: httpx.Response) -> ElementTree.Element:
    """An answer's XML, its names freed of the namespace."""
    try:
        root = ElementTree.fromstring(answer.content)
    except ElementTree.ParseError as error:
        raise StoreError(f"The answer of {answer.url.host} is not S3's: {error}.") from None
    for each in root.iter():
        each.tag = _NAMESPACE.sub("", each.tag)
    return root


def text(element: ElementTree.Element, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _checksum(body: bytes) -> dict[str, str]:
    """S3 asks for it with a lifecycle, and with objects that are kept from deletion."""
    digest = hashlib.md5(body, usedforsecurity=False).digest()
    return {"content-md5": base64.b64encode(digest).decode()}


def _decoded(key: str) -> str:
    from urllib.parse import unquote_plus

    return unquote_plus(key)
