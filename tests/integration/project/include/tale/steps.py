"""Functions of the tale's python tasks."""

import time


def verdict(word: str) -> str:
    if word == "hostile":
        raise RuntimeError("<script>alert('log')</script>")
    if word == "bad":
        raise RuntimeError("this word is bad")
    return word


def sleep(seconds: int) -> None:
    time.sleep(seconds)
