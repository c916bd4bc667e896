"""S3 as the doctor speaks it: signed requests (AWS Signature Version 4) and what its refusals mean.

The signature is that of the AWS General Reference, "Create a signed AWS API request".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_address
from urllib.parse import quote, urlencode

from forebay.connections.network import Wrong
from forebay.connections.web import Answer, Web, clock, split

_UNSIGNED = ("host", "content-length")


@dataclass(frozen=True)
class S3:
    """An object store and a key for it."""

    endpoint: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)
    path_style: bool = True

    def url(self, bucket: str = "", key: str = "") -> str:
        """Where a bucket or an object is, in path or virtual-host style."""
        parts = split(self.endpoint, "https")
        base = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        path = quote(key, safe="/-_.~")
        if not bucket:
            return f"{base}/"
        if self.path_style or _is_address(str(parts.hostname)):
            return f"{base}/{quote(bucket, safe='-_.~')}/{path}"
        return f"{parts.scheme}://{quote(bucket, safe='-_.~')}.{parts.netloc.rpartition('@')[2]}/{path}"

    async def ask(
        self,
        web: Web,
        method: str,
        bucket: str = "",
        key: str = "",
        query: dict[str, str] | None = None,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One signed request; redirects are not followed, for the signature holds for one host."""
        url = self.url(bucket, key)
        if query:
            url += "?" + urlencode(sorted(query.items()), quote_via=quote, safe="-_.~")
        return await web.ask(method, url, headers=self.signed(method, url, body, headers or {}), body=body)

    def signed(
        self, method: str, url: str, body: bytes, headers: dict[str, str], at: datetime | None = None
    ) -> dict[str, str]:
        """The headers of a request, with its signature."""
        parts, now = split(url, "https"), at or datetime.now(UTC)
        moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        digest = hashlib.sha256(body).hexdigest()
        sent = {
            **{name.lower(): value for name, value in headers.items()},
            "host": parts.netloc,
            "x-amz-date": moment,
            "x-amz-content-sha256": digest,
            **({"x-amz-security-token": self.token} if self.token else {}),
        }
        names = ";".join(sorted(sent))
        lines = "".join(f"{name}:{' '.join(sent[name].split())}\n" for name in sorted(sent))
        request = "\n".join((method, parts.path or "/", parts.query, lines, names, digest))
        scope = f"{day}/{self.region}/s3/aws4_request"
        text = "\n".join(("AWS4-HMAC-SHA256", moment, scope, hashlib.sha256(request.encode()).hexdigest()))
        key = f"AWS4{self.secret_key}".encode()
        for part in (day, self.region, "s3", "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        sent["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        return sent


def code(answer: Answer) -> str:
    """The code of a refusal, such as NoSuchBucket; empty where the answer has none."""
    return tag(answer, "Code") or str(answer.headers.get("x-minio-error-code", ""))


def tag(answer: Answer, name: str) -> str:
    """The text of the first element of a name. By pattern: nothing else of the document matters."""
    found = re.search(rf"<{name}>([^<]{{0,1024}})</{name}>", answer.text)
    return found[1] if found else ""


def tags(answer: Answer, name: str) -> list[str]:
    return re.findall(rf"<{name}>([^<]{{0,1024}})</{name}>", answer.text)


def refused(answer: Answer, store: S3, web: Web, what: str) -> Wrong:
    """Why the store refused, and what mends it."""
    why = code(answer)
    if why in ("RequestTimeTooSkewed", "RequestExpired") or (web.skewed and answer.status == 403):
        there = f": the store's clock is {clock(web.skew)}" if web.skew is not None else ""
        return Wrong(
            f"the clocks differ{there}",
            "Set both machines' clocks by NTP. Signatures are good for 15 minutes.",
        )
    if why in (
        "InvalidAccessKeyId",
        "InvalidAccessKey",
        "InvalidClientTokenId",
        "UnrecognizedClientException",
    ):
        return Wrong(
            f"the store knows no access key '{store.access_key}'",
            "Correct the connection's login, or make the key.",
        )
    if why in ("SignatureDoesNotMatch", "AuthFailure"):
        return Wrong(
            "the secret key is wrong",
            "Correct the connection's password. A proxy that changes the host or path on the way looks like this too.",
        )
    if why in ("AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException") or (
        answer.status == 301
    ):
        right = tag(answer, "Region") or str(answer.headers.get("x-amz-bucket-region", ""))
        expected = re.search(r"expecting '([a-z0-9-]+)'", answer.text)
        right = right or (expected[1] if expected else "")
        there = f", it is in '{right}'" if right else ""
        mend = f'Write "region_name": "{right}" in extra.' if right else "Correct region_name in extra."
        return Wrong(f"{what} is not in the region '{store.region}'{there}", mend)
    if why in ("ExpiredToken", "InvalidToken", "TokenRefreshRequired"):
        return Wrong("the session token has expired", "Put a new aws_session_token, or a key that lasts.")
    if why == "NoSuchBucket":
        return Wrong(f"there is no bucket '{what}'", "Correct the bucket's name, or make the bucket.")
    if why in ("AccessDenied", "AllAccessDisabled") or answer.status in (401, 403):
        return Wrong(f"{what}: access denied", "Give this key the right in the store's policy.")
    if answer.status == 503 or why == "SlowDown":
        return Wrong("the store asks to slow down", "Try again in a moment; look at the store's load.")
    said = tag(answer, "Message") or why or "no reason given"
    return Wrong(f"{what}: the store answered HTTP {answer.status}: {said}", "Look at the store's log.")


def is_s3(answer: Answer) -> bool:
    """Whether the answer is one that a store gives."""
    return (
        "<Error" in answer.text
        or "amz" in str(answer.headers)
        or "ListAllMyBucketsResult" in answer.text
        or answer.status in (301, 307)
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return host == "localhost"
    return True
