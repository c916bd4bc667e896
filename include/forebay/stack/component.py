"""One of Airflow's services: `python -P -m forebay.stack.component scheduler`, as `airflow scheduler`, started sooner."""

from __future__ import annotations

import gc

# Nearly all that a service makes while it starts it keeps. Python's own thresholds (700, 10, 10) have it look through
# all of that again and again: a fifth of the API server's time to start.
THRESHOLDS = (50_000, 20, 20)


def main() -> None:
    gc.set_threshold(*THRESHOLDS)
    from airflow.__main__ import main as airflow

    airflow()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
