"""S3 at any endpoint: SeaweedFS, MinIO, Ceph, a cloud's.

The bucket is that of Airflow's own S3 hook: `service_config.s3.bucket_name` in extra. Without one only what the key may
see is listed, and nothing is written.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from forebay.connections import s3
from forebay.connections.check import AUTHENTICATE, LIST, NETWORK, READ, WRITE, Check
from forebay.connections.model import Connection
from forebay.connections.network import Wrong
from forebay.connections.s3 import S3
from forebay.connections.web import Answer, Web, place_of, split
from forebay.errors import suggestion

TITLE = "S3"
ALSO = ("s3",)
PLAN = (*NETWORK, AUTHENTICATE, LIST, READ, WRITE)
EXAMPLE = {
    "conn_type": "aws",
    "login": "access key",
    "extra": {
        "endpoint_url": "http://127.0.0.1:8333",
        "region_name": "us-east-1",
        "service_config": {"s3": {"bucket_name": "lake"}},
    },
}

PROBE = ".forebay-probe"


def store_of(connection: Connection) -> S3:
    """The store that a connection of type `aws` means."""
    region = connection.text("region_name") or "us-east-1"
    service = _service(connection)
    endpoint = str(service.get("endpoint_url") or connection.text("endpoint_url", "host") or "")
    config = connection.extra.get("config_kwargs")
    style = ""
    if isinstance(config, Mapping) and isinstance(config.get("s3"), Mapping):
        style = str(config["s3"].get("addressing_style") or "")
    return S3(
        endpoint or f"https://s3.{region}.amazonaws.com",
        region,
        connection.login or connection.text("aws_access_key_id"),
        connection.password or connection.text("aws_secret_access_key"),
        connection.text("aws_session_token"),
        path_style=style != "virtual" and (bool(endpoint) or style == "path"),
    )


def bucket_of(connection: Connection) -> str:
    """The bucket that it names; empty where it names none."""
    named = _service(connection).get("bucket_name")
    return str(named or connection.text("bucket_name", "bucket") or connection.schema)


def _service(connection: Connection) -> Mapping[str, object]:
    services = connection.extra.get("service_config")
    found = services.get("s3") if isinstance(services, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def about(connection: Connection) -> str:
    bucket = bucket_of(connection)
    return store_of(connection).endpoint + (f", bucket {bucket}" if bucket else "")


async def check(check: Check) -> None:
    store, bucket = store_of(check.connection), bucket_of(check.connection)
    web = Web(check, careless=check.connection.flag("verify") is False)
    check.fact("region", store.region)
    check.fact("style", "path" if store.path_style else "virtual host")
    if not store.path_style and bucket:
        place = place_of(split(store.url(bucket)))
    else:
        place = place_of(split(store.endpoint, "https"))
    web.adopt(place, await check.line(place))
    buckets = await _authenticate(check, web, store, bucket)
    bucket, key = await _list(check, web, store, bucket, buckets)
    if not bucket:
        check.skip(READ, "the connection names no bucket")
        check.skip(
            WRITE, 'the connection names no bucket: add "service_config": {"s3": {"bucket_name": "…"}}'
        )
        return
    await _read(check, web, store, bucket, key)
    await _write(check, web, store, bucket)


async def _authenticate(check: Check, web: Web, store: S3, bucket: str) -> list[str] | None:
    """The buckets that the key sees; None where it may not list them."""
    async with check.step(AUTHENTICATE, "Authenticate: list the buckets") as finding:
        if not store.access_key or not store.secret_key:
            raise Wrong(
                "the connection holds no key",
                "Put the access key into login and the secret key into password. The doctor does not ask the machine "
                "for a role of its own.",
            )
        answer = await (
            store.ask(web, "GET")
            if store.path_style or not bucket
            else store.ask(web, "GET", bucket, query={"list-type": "2", "max-keys": "1"})
        )
        why = s3.code(answer)
        if answer.status == 200 and "<" in answer.text and "Bucket" in answer.text:
            found = s3.tags(answer, "Name") if store.path_style or not bucket else [bucket]
            finding.found = f"{len(found)} bucket{'s' if len(found) != 1 else ''}"
            return found
        if why in ("AccessDenied", "AllAccessDisabled") and not web.skewed:
            finding.found = "the key is good; it may not list all buckets"
            return None
        if not s3.is_s3(answer):
            raise Wrong(
                f"this is no S3 (HTTP {answer.status})",
                "Something else answers there: correct host and port of endpoint_url.",
            )
        raise s3.refused(answer, store, web, "the bucket list")
    return None


async def _list(check: Check, web: Web, store: S3, bucket: str, buckets: list[str] | None) -> tuple[str, str]:
    """The bucket to go on with, and an object in it."""
    if not bucket:
        check.skip(
            LIST, f"no bucket is named; the key sees {', '.join(buckets[:8])}" if buckets else "no bucket is named"
        )  # fmt: skip
        return "", ""
    async with check.step(LIST, f"List the bucket {bucket}") as finding:
        answer = await store.ask(web, "GET", bucket, query={"list-type": "2", "max-keys": "5"})
        _region(check, store, answer)
        if s3.code(answer) == "NoSuchBucket" or answer.status == 404:
            raise Wrong(
                f"there is no bucket '{bucket}'",
                "Correct bucket_name, or make the bucket." + suggestion(bucket, buckets or (), "Buckets"),
            )
        if answer.status != 200:
            raise s3.refused(answer, store, web, f"bucket '{bucket}'")
        keys = [key for key in s3.tags(answer, "Key") if not key.endswith("/")]
        finding.found = "it holds objects" if s3.tags(answer, "Key") else "it is empty"
    return bucket, keys[0] if keys else ""


def _region(check: Check, store: S3, answer: Answer) -> None:
    there = answer.headers.get("x-amz-bucket-region", "")
    if there:
        check.fact("region", there if there == store.region else f"{there}, not {store.region}")


async def _read(check: Check, web: Web, store: S3, bucket: str, key: str) -> None:
    async with check.step(READ, "Read one byte of an object", needed=False) as finding:
        if not key:
            finding.skip("there is no object to read yet")
            return
        answer = await store.ask(web, "GET", bucket, _plain(key), headers={"range": "bytes=0-0"})
        if answer.status not in (200, 206, 416):
            wrong = s3.refused(answer, store, web, "reading an object")
            finding.warn(f"can list, cannot read ({wrong.found})", "Give this key the right s3:GetObject.")


def _plain(key: str) -> str:
    from html import unescape

    return unescape(key)


async def _write(check: Check, web: Web, store: S3, bucket: str) -> None:
    key, body = f"{PROBE}/{uuid.uuid4().hex}", b"written by forebay connections check; may be deleted\n"
    async with check.step(WRITE, needed=False) as finding:
        answer = await store.ask(web, "PUT", bucket, key, body=body)
        if answer.status not in (200, 201, 204):
            wrong = s3.refused(answer, store, web, "writing an object")
            finding.warn(
                f"can list, cannot write ({wrong.found})",
                "Give this key the right s3:PutObject. Jobs that only read from here need it not.",
            )
            return
        back = await store.ask(web, "GET", bucket, key)
        gone = await store.ask(web, "DELETE", bucket, key)
        if gone.status not in (200, 202, 204):
            finding.warn(
                f"wrote {key}, and may not delete it",
                "Give this key the right s3:DeleteObject, and delete the probe.",
            )
            return
        if back.status != 200 or back.body != body:
            finding.warn("what was written did not come back the same", "Look at the store's log and disks.")
            return
        finding.found = "written, read back, deleted"
