"""The object store below the lake, where it does not answer or refuses."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

from forebay.lake.connection import LakeError

_AWAY = re.compile(r"AWS Error (NETWORK_CONNECTION|SLOW_DOWN|SERVICE_UNAVAILABLE|\w+ \(HTTP status 5\d\d\))")


@contextlib.contextmanager
def asked(endpoint: str) -> Iterator[None]:
    """Turns what PyArrow raises of an S3 store into a sentence: which store, and what to do."""
    try:
        yield
    except OSError as error:
        said = str(error)
        if "AWS Error" not in said:
            raise
        if found := _AWAY.search(said):
            why = said[found.start() :].partition("; Details")[0]
            raise LakeError(
                f"The store at {endpoint} does not answer ({why}). Is it up? forebay status"
            ) from error
        raise LakeError(f"The store at {endpoint} refused: {said}") from error
