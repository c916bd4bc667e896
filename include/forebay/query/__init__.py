"""SELECTs that people write, run for them: read-only, capped, cancelled at once, and in a process of their own."""
