"""Until a warm stack is healthy, and the memory it takes idle."""

from __future__ import annotations

import time

from forebay.stack import health, lifecycle
from harness import Row, folder, median, running, say


def measure(rounds: int) -> list[Row]:
    times, memory = [], []
    with folder() as root, running(root) as stack:
        for _ in range(rounds):
            lifecycle.down(stack)
            began = time.monotonic()
            lifecycle.up(stack, lambda _: None)
            times.append(time.monotonic() - began)
            time.sleep(20)
            memory.append(sum(service.memory for service in health.status(stack)) / 1e9)
            say(f"up {times[-1]:.1f} s, {memory[-1]:.2f} GB")
    seconds, size = median(times), median(memory)
    return [
        ("forebay up, warm, to healthy", f"{seconds:.1f} s", "≤ 20 s", seconds <= 20),
        ("whole stack, idle (PSS)", f"{size:.2f} GB", "≤ 1.2 GB", size <= 1.2),
    ]
