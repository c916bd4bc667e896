def publish(day: str) -> None:
    """Publishes."""
