"""Ready configuration for engines: what of a connection readers are shown."""

from __future__ import annotations

import pytest

from forebay.engines.openings import snippets
from forebay.lake.connection import CatalogConfig

CANARY = "a-canary-in-an-address"
EXTRA = {
    "warehouse": "lake",
    "s3.endpoint": f"http://me:{CANARY}@store.example:9000/",
    "oauth2-server-uri": f"https://me:{CANARY}@login.example/tokens",
    "lens": f"http://:{CANARY}@lens.example:8182",
}


@pytest.mark.parametrize("lens", [True, False])
@pytest.mark.parametrize(
    "host", [f"https://me:{CANARY}@catalog.example/api", f"https://{CANARY}@catalog.example/api"]
)
def test_a_login_in_an_address_is_shown_to_nobody(host: str, lens: bool) -> None:
    extra = {name: value for name, value in EXTRA.items() if lens or name != "lens"}
    config = CatalogConfig.from_connection(host, "key", "secret", extra)
    shown = "".join(each.text for each in snippets(config, "lab.rows"))
    assert CANARY not in shown + str(config)
    assert "login.example/tokens" in shown
    assert "store.example:9000" in shown
    assert ("lens.example:8182/published" if lens else "https://catalog.example/api") in shown


def test_an_at_sign_elsewhere_stays() -> None:
    config = CatalogConfig.from_connection("https://catalog.example/a@b", "key", "secret", EXTRA)
    assert config.uri == "https://catalog.example/a@b"
