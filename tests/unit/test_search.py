"""Search over the tables' names, columns and comments, against a plain scan of all of them."""

from __future__ import annotations

import random

from forebay.lake.describe import Column
from forebay.lake.index import Entry
from forebay.lake.search import Vocabulary, find

WORDS = ("amount", "Delay", "carrier", "am", "delayed_amount", "price")


def entry(rng: random.Random, number: int) -> Entry:
    columns = tuple(
        Column(name, "int", rng.choice(["", f"the {rng.choice(WORDS)} of {rng.choice(WORDS)}"]), False, "")
        for name in rng.sample(WORDS, 3)
    )
    table = f"ns{number % 3}.{rng.choice(WORDS)}_{number}"
    return Entry(table, rng.choice(["", *WORDS]), columns, (), None, None, None, None, None, 0)


def everything(entry: Entry) -> str:
    texts = [entry.table, entry.comment, *(f"{column.name}\n{column.comment}" for column in entry.columns)]
    return "\n".join(texts).lower()


def test_it_finds_what_a_scan_finds_also_after_tables_changed() -> None:
    rng = random.Random(7)
    entries = {each.table: each for each in (entry(rng, number) for number in range(60))}
    vocabulary = Vocabulary.of(entries.values())
    for _ in range(200):
        gone = [entries.pop(table) for table in rng.sample(sorted(entries), rng.randint(0, 4))]
        # Some come back as they were, some with other columns, and some are new.
        came = [each for each in gone if rng.random() < 0.3]
        came += [entry(rng, rng.randint(100, 9999)) for _ in range(rng.randint(0, 4))]
        came = list({each.table: each for each in came if each.table not in entries}.values())
        entries |= {each.table: each for each in came}
        vocabulary = vocabulary.renewed(gone, came)
        words = " ".join(rng.choices([*WORDS, "ns1", "the", "e"], k=rng.randint(1, 3)))
        hits, total = find(entries, vocabulary, words, lambda namespace: namespace != "ns2", 5)
        parts = words.lower().split()
        expected = {
            table for table, each in entries.items()
            if not table.startswith("ns2.") and all(part in everything(each) for part in parts)
        }  # fmt: skip
        assert total == len(expected)
        assert len(hits) == min(5, total)
        assert {hit.entry.table for hit in hits} <= expected
        named = sum(all(part in table.lower() for part in parts) for table in expected)
        in_name = [all(part in hit.entry.table.lower() for part in parts) for hit in hits]
        assert in_name == [True] * min(5, named) + [False] * (len(hits) - min(5, named))
    fresh = Vocabulary.of(entries.values())
    for kept, new in ((vocabulary.names, fresh.names), (vocabulary.columns, fresh.columns), (vocabulary.comments, fresh.comments)):  # fmt: skip
        assert {text: set(tables) for text, tables in kept.items()} == {
            t: set(tables) for t, tables in new.items()
        }
        assert all(len(set(tables)) == len(tables) for tables in kept.values())
