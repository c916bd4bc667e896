"""Keeps a program's whole process group on a leash: `python -I -S guard.py PARENT FOLDER program …`.

It ends with the program's code and removes the program's FOLDER. SIGTERM, or the death of PARENT, ends
the group: by SIGTERM at once, by SIGKILL 3 s later. A killed task thus leaves no JVM, no Python, no file.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 3


def main(parent: int, folder: str, command: list[str]) -> int:
    def stop(_signal: int, _frame: object) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.alarm(GRACE_SECONDS)
        os.killpg(0, signal.SIGTERM)

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGALRM, lambda *_: kill_others())
    # The loader's own symbols: no library of that name needs to exist.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    code = 1
    if os.getppid() == parent:
        code = subprocess.Popen(command).wait()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.alarm(0)
    # A program that shrugs SIGTERM off, or left something in the background, outlives its JVM otherwise.
    kill_others()
    shutil.rmtree(folder, ignore_errors=True)
    return code if code >= 0 else 128 - code


def kill_others() -> None:
    for other in members(os.getpgrp()):
        with contextlib.suppress(ProcessLookupError):
            os.kill(other, signal.SIGKILL)


def members(group: int) -> list[int]:
    """The other processes of a process group."""
    found = []
    for name in os.listdir("/proc"):
        # Processes come and go while the list is read.
        with contextlib.suppress(OSError):
            if name.isdigit() and int(name) != os.getpid() and os.getpgid(int(name)) == group:
                found.append(int(name))
    return found


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2], sys.argv[3:]))
