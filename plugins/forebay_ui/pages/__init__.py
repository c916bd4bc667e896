"""One file per page, found by its name: `catalog.py` answers below /forebay/catalog.

A page has a docstring whose first line says what question it answers, `TITLE` and `PLACE` (where it stands in the
bar), `router` with its routes, and `api` with those of the JSON API below /forebay/api/v1.
"""
