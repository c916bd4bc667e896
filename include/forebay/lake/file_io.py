"""How PyIceberg reaches the files of the lake's tables."""

from __future__ import annotations

from typing import Any

from pyiceberg.io.pyarrow import PyArrowFileIO


class LakeFileIO(PyArrowFileIO):
    """PyArrow's, with one request for a small file.

    PyArrow begins a file with a request, sends it with a second and ends it with a third, unless it may wait until it
    knows how much there is. A commit writes three small files at least.
    """

    def _initialize_s3_fs(self, netloc: str | None) -> Any:
        # There is no property of PyIceberg's for it; so it is made anew as if it came from another process.
        made, (settings,) = super()._initialize_s3_fs(netloc).__reduce__()
        return made({**settings, "allow_delayed_open": True})
