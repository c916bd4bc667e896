"""Who asks for the lake: a run, or one try of a task of it; and the branch that is the run's own."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from forebay.errors import ForebayError

BRANCH_PREFIX = "run_"
STAMP = "forebay."
"""What every key begins with that the lens writes into a snapshot's summary or a table's properties."""
RECORD = "record"
"""The stamp of a snapshot that says something about a run, and is none of what the run publishes."""

AGAIN = "forebay_backfill"
"""The key in a run's conf with the mark of the backfill that does it."""

_MARK = re.compile(r"[0-9A-Za-z]{1,32}")
_MAX_SEGMENT = 16_000


class UnknownRun(ForebayError):
    """An address names no run that can be read."""


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a job, as Airflow names it."""

    job: str
    """Airflow's dag id: <workspace>.<job>."""
    run: str
    """Airflow's run id; behind a # the mark of the backfill that did it (see `named`)."""

    @classmethod
    def named(cls, job: str, run_id: str, conf: object) -> Run:
        """The run of an Airflow run id, by its name in the lake.

        A backfill clears runs that were there and does them again under the same id. Each time is a transaction of
        its own, with a branch of its own, so the backfill's mark in the run's conf becomes part of the name.
        """
        mark = conf.get(AGAIN) if isinstance(conf, Mapping) else None
        return Run(job, f"{run_id}#{mark}" if isinstance(mark, str) and _MARK.fullmatch(mark) else run_id)

    @property
    def airflow(self) -> str:
        """Airflow's run id alone."""
        return self.run.partition("#")[0]

    @property
    def workspace(self) -> str:
        return self.job.partition(".")[0]

    @property
    def branch(self) -> str:
        """The run's branch, the same on every table: readable, and safe in every engine whatever the run is called."""
        digest = hashlib.sha256(f"{self.job}\n{self.run}".encode()).hexdigest()[:16]
        return f"{BRANCH_PREFIX}{re.sub(r'[^a-z0-9]+', '_', self.job.lower())[:60]}_{digest}"


@dataclass(frozen=True, slots=True)
class TaskTry(Run):
    """One try of a task: what is written into every snapshot that it makes.

    Without `task` it is somebody who only looks at the run's branch.
    """

    task: str = ""
    """Airflow's task id; of a mapped task also its index, as in `load[3]`."""
    number: int = 1
    """The try's number, from 1."""
    engine: str = ""
    commit: str = ""
    """Git commit of the job's text, empty where it is not known."""
    user: str = ""
    """Who or what started the run."""
    writes: tuple[str, ...] = ()
    """The tables it may write, as namespace.table."""
    exclusive: tuple[str, ...] = ()
    """Of these, the ones whose new rows depend on the rows that were there."""
    began: float = 0.0
    """When the try began, in seconds since 1970."""
    pins: tuple[str, ...] = ()
    """Tables it reads as they were, as namespace.table@snapshot: those of a run that is done again."""
    keep: float = 0.0
    """How long its branch stays if the run ends without publishing, in seconds; 0 where nobody has said."""

    def pin(self, table: str) -> str | None:
        """The snapshot this try reads a table at, as text and empty for no rows; None where it is today's."""
        if table in self.writes:
            return None
        return next((pin.rpartition("@")[2] for pin in self.pins if pin.rpartition("@")[0] == table), None)

    def segment(self) -> str:
        """This as one segment of an URL, of letters, digits, `-` and `_`."""
        values = {name: value for name, value in asdict(self).items() if value}
        packed = zlib.compress(json.dumps(values, separators=(",", ":")).encode(), 9)
        return base64.urlsafe_b64encode(packed).decode().rstrip("=")

    @classmethod
    def parse(cls, segment: str) -> TaskTry:
        """From `segment`; raises UnknownRun for anything else."""
        try:
            if len(segment) > _MAX_SEGMENT:
                raise ValueError("too long")
            packed = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
            unpacked = zlib.decompressobj()
            values = json.loads(unpacked.decompress(packed, 1_000_000))
            if not unpacked.eof:
                raise ValueError("too long")
            return cls._checked(values)
        except (ValueError, TypeError, zlib.error, binascii.Error, RecursionError) as error:
            raise UnknownRun(
                f"the address names no run ({error}). It is made for each task: see the line 'catalog' in the "
                "task's log, or use /main for the published tables"
            ) from None

    @classmethod
    def _checked(cls, values: object) -> TaskTry:
        if not isinstance(values, dict):
            raise ValueError("not a mapping")
        kinds: dict[str, tuple[type, ...]] = {
            "number": (int,),
            "began": (int, float),
            "keep": (int, float),
            "writes": (list,),
            "exclusive": (list,),
            "pins": (list,),
        }
        for name, value in values.items():
            if not isinstance(value, kinds.get(name, (str,))) or isinstance(value, bool):
                raise ValueError(f"{name} is not of its type")
        if unknown := values.keys() - {field.name for field in fields(cls)}:
            raise ValueError(f"unknown {', '.join(sorted(unknown))}")
        if not values.get("job") or not values.get("run"):
            raise ValueError("it lacks job or run")
        lists = {name: tuple(map(str, values.pop(name, ()))) for name in ("writes", "exclusive", "pins")}
        if any(not re.fullmatch(r"[^@]+@[0-9]*", pin) for pin in lists["pins"]):
            raise ValueError("pins are not of the form table@snapshot")
        return cls(**values, writes=lists["writes"], exclusive=lists["exclusive"], pins=lists["pins"])

    @property
    def _began(self) -> str:
        return f"{self.began:.6f}"

    def has_double(self, summary: Mapping[str, object]) -> bool:
        """Whether a snapshot's summary is of this try, but of another process of it or of an earlier run of this name."""
        mine = {"job": self.job, "run": self.run, "task": self.task, "try": str(self.number)}
        began = summary.get(f"{STAMP}began")
        return (
            bool(self.began and began)
            and began != self._began
            and all(summary.get(f"{STAMP}{name}") == value for name, value in mine.items())
        )

    def stamps(self, base: int | None, inputs: Mapping[str, int | None], complete: bool) -> dict[str, str]:
        """What the lens adds to the summary of a snapshot that this try makes.

        `base` is the snapshot of main that the branch began at; `inputs` the snapshot of each table that was read.
        """
        stamps = {
            "workspace": self.workspace,
            "job": self.job,
            "run": self.run,
            "task": self.task,
            "try": str(self.number),
            "commit": self.commit,
            "user": self.user,
            "engine": self.engine,
            "base": "" if base is None else str(base),
            "inputs": ",".join(
                f"{table}@{'' if snapshot is None else snapshot}"
                for table, snapshot in sorted(inputs.items())
            ),
        }
        if self.began:
            stamps["began"] = self._began
        if not complete:
            stamps["inputs-complete"] = "false"
        if self.keep:
            stamps["keep"] = f"{self.keep:.0f}"
        return {f"{STAMP}{name}": value for name, value in stamps.items()}
