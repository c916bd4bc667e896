"""Functions that the job $workspace.$job calls."""

from datetime import date


def report(day: date) -> str:
    """What it prints is in the task's log; what it returns is the task's XCom."""
    text = f"{day} is a {day:%A}."
    print(text)
    return text
