"""Functions of the story's python tasks."""


def verdict(word: str) -> str:
    if word == "bad":
        raise RuntimeError("this word is bad")
    return word
