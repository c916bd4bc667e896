"""Documents that only Airflow's own processes can read: sealed with its Fernet key."""

from __future__ import annotations

import binascii
import json
import zlib
from base64 import b64decode, b64encode
from typing import Any

from airflow.sdk.crypto import get_fernet
from cryptography.fernet import InvalidToken


class Unreadable(Exception):
    """It was sealed with another key, or by another version, or by nobody."""


def seal(document: dict[str, Any]) -> str:
    """The document as text; empty where Airflow has no key to seal it with."""
    fernet = get_fernet()
    if not fernet.is_encrypted:
        return ""
    return fernet.encrypt(b64encode(zlib.compress(json.dumps(document).encode()))).decode()


def unseal(text: str, *, seconds: int | None = None) -> dict[str, Any]:
    """The document that was sealed, at most so many seconds ago. Raises Unreadable."""
    fernet = get_fernet()
    if not text or not fernet.is_encrypted:
        raise Unreadable
    try:
        found = json.loads(zlib.decompress(b64decode(fernet.decrypt(text, seconds))))
    except (InvalidToken, binascii.Error, zlib.error, ValueError) as error:
        raise Unreadable from error
    if not isinstance(found, dict):
        raise Unreadable
    return found
