"""`python -m forebay.lens --catalog URL --port N`: serves the lens."""

from __future__ import annotations

import argparse

import uvicorn

from forebay.lens.service import application


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m forebay.lens", description="Serves the lens.")
    parser.add_argument("--catalog", required=True, help="address of the Iceberg REST catalog, without /v1")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8182)
    arguments = parser.parse_args()
    uvicorn.run(
        application(arguments.catalog),
        host=arguments.host,
        port=arguments.port,
        log_level="warning",
        access_log=False,
        # Requests that are under way at a stop are answered.
        timeout_graceful_shutdown=5,
    )


if __name__ == "__main__":
    main()
