def countries() -> list[str]:
    return ["NO"]
