"""Makes sure that there is a Chromium for the browser tests: Debian's, where this user may install it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
INSTALL = ("apt-get", "install", "-y", "-q", "--no-install-recommends", "chromium")


def main() -> None:
    if any(map(shutil.which, BROWSERS)):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        sys.exit("The browser tests need Chromium on PATH. Debian: sudo apt install chromium")
    print("· installing Chromium", file=sys.stderr, flush=True)
    quiet = {"env": {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, "stdout": subprocess.DEVNULL}
    for command in (("apt-get", "update", "-q"), INSTALL):
        if subprocess.run(command, **quiet).returncode:  # type: ignore[call-overload]
            sys.exit(f"`{' '.join(command)}` failed, and the browser tests need Chromium on PATH.")


if __name__ == "__main__":
    main()
