"""What is wrong with a file that DuckDB could not read, as `file:line: what`."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from forebay.engines.files import Found, S3Access, whole


def explained_by_file(text: str, access: S3Access, batch: Sequence[Found], options: Mapping[str, Any]) -> str:
    """DuckDB's message about a file of the batch, with file and line first where they can be found.

    `options` are those that the task gives of a CSV file.
    """
    text = text.replace(access.secret_key, "***").strip()
    line = re.search(r"CSV Error on Line: (\d+)", text)
    file = re.search(r"^\s*file\s*=\s*(.+)$", text, re.MULTILINE)
    if line and file:
        name = next((one.name for one in batch if one.path == file[1].strip()), file[1].strip())
        said = [part.strip() for part in text.splitlines()[1:8] if part.strip()]
        reason = [part for part in said if not part.startswith(("Possible", "LINE", "file", "Column "))][:2]
        return f"{name}:{line[1]}: {'. '.join(reason)}"
    if "sniffing" in text:
        for one in batch:
            if found := _bad_line(one, access, options):
                return found
    return text


def _bad_line(one: Found, access: S3Access, options: Mapping[str, Any]) -> str | None:
    """The first line of a CSV file that has another number of fields than the first one."""
    data = io.TextIOWrapper(
        io.BytesIO(whole(one, access)), encoding="utf-8-sig", errors="replace", newline=""
    )
    reader = csv.reader(
        data, delimiter=str(options.get("delimiter", ",")), quotechar=str(options.get("quote", '"'))
    )
    width = 0
    try:
        for fields in reader:
            width = width or len(fields)
            if fields and len(fields) != width:
                return f"{one.name}:{reader.line_num}: {len(fields)} fields where the first line has {width}"
    except csv.Error as error:
        return f"{one.name}:{reader.line_num}: {error}"
    return None
