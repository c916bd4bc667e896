"""A notifier that leaves a file."""

from airflow.sdk import BaseNotifier

from lab.steps import NOTES


class FileNotifier(BaseNotifier):
    """Writes notes/<name>."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def notify(self, context: object) -> None:
        NOTES.mkdir(exist_ok=True)
        (NOTES / self.name).touch()
