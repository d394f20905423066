"""The portfolio page as a server: read only, loopback or a token, nothing leaks, and it says when it is old."""

from __future__ import annotations

import base64
import json
import time
from contextlib import ExitStack

import httpx
import pytest

from lake.errors import ConfigError, StoreError
from pipelines.reports.portfolio_page import page, places
from pipelines.reports.portfolio_words import coverage_rows, stretch
from pipelines.scheduled.page import Looked, application, loopback, page_port, token_of
from pipelines.servers.subprocesses import free_port
from tests.pipelines.page_data import CHAINS, DATA, WHOLE

HOSTS = ["127.0.0.1"]


def looked(**more) -> Looked:
    made = Looked({"main": lambda: DATA, **more})
    made.look()
    return made


def client(app) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1")


def ask(app, path="/", method="GET", **more) -> httpx.Response:
    import asyncio

    async def asked():
        async with client(app) as http:
            return await http.request(method, path, **more)

    return asyncio.run(asked())


def app(**more):
    return application(looked(), lambda _id: {"decision_id": _id, "text": "why <b>"}, HOSTS, **more)


def test_the_page_has_everything_in_order_is_small_and_asks_nobody_else():
    answer = ask(app())
    assert answer.status_code == 200
    text = answer.text
    order = ("nav", "bands", "next", "keeper", "cost", "saved", "alerts", "last")
    places = [text.index(f'id="h-{name}"') for name in order]
    assert places == sorted(places)
    assert len(answer.content) < 300_000
    assert "://" not in text.replace("http://www.w3.org", "")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert all(ask(app(), f"/{n}").status_code == 200 for n in ("portfolio.css", "portfolio.js", "health"))


def test_the_second_screen_shows_what_there_is_and_says_what_there_is_not():
    text = page(WHOLE, ["main"], "v")
    order = [f'id="h-{name}"' for name in ("last", "hist", "ahead", "chains", "greeks", "models")]
    places = [text.index(mark) for mark in order]
    assert places == sorted(places)
    assert len(text.encode()) < 300_000
    for words in (
        "Outside its tolerances today: 12 min", "36.5 to 39.9 %", "7.7 bp", "6.4 to 12.1 bp", "0x3434343434",
        "25,000 USD from chain 1 to 42161", '<td class="lost">12,400 USD</td>', "-12,400 USD", "was to wait",
        "worth by chain over time in thousand USD: chain 1, chain 42161; arrows are transfers",
    ):  # fmt: skip
        assert words in text, words
    none = {"rows": [], "words": "There is no forecast of drift of the last day."}
    bare = page({**DATA, "drift": none, "slippage": none}, ["main"], "v")
    assert "h-chains" not in bare
    assert "h-greeks" not in bare
    assert bare.count("There is no forecast of drift of the last day.") == 2
    odd = page(
        {**WHOLE, "chains": {**CHAINS, "words": "The cash <b>does not</b> add up.", "under_way": []}}, ["main"], "v"
    )
    assert "The cash &lt;b&gt;does not&lt;/b&gt; add up." in odd
    assert "No transfer is under way." in odd


def test_what_to_do_is_shown_as_a_command_and_stays_text():
    text = page(
        {**DATA, "alerts": [{"alert": "x", "says": "It is <old>.", "do": "`foredrift <x>`, soon"}]}, ["main"], "v"
    )
    assert "<b>It is &lt;old&gt;.</b>" in text
    assert "What to do: <code>foredrift &lt;x&gt;</code>, soon." in text


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_nothing_can_be_done_to_it(method):
    assert ask(app(), "/", method).status_code == 405


def test_it_answers_under_its_own_names_only():
    assert ask(app(), headers={"host": "attacker.example"}).status_code == 400


def test_values_are_escaped():
    evil = {**DATA, "name": "<script>alert(1)</script>", "alerts": [{"alert": "x", "says": "<img src=x>", "do": "y"}]}
    text = page(evil, ["main"], "v")
    assert "<script>alert" not in text
    assert "<img src=x>" not in text
    assert "why &lt;b&gt;" in ask(app(), "/decision/abc").text


@pytest.mark.parametrize(
    ("row", "marks", "low", "high"),
    [
        ({"low": 0.37, "high": 0.43, "weight": 0.4}, (), 0.34, 0.46),
        ({"low": 0.37, "high": 0.43, "weight": 0.5}, (), 0.34, 0.5075),
        ({"low": 0.0, "high": 0.05, "weight": 0.01}, (), 0.0, 0.075),
        ({"low": 0.37, "high": 0.43, "weight": 0.4, "q05": 0.3, "q95": 0.41}, ("q05", "q95"), 0.2925, 0.46),
    ],
)
def test_a_bar_holds_its_band_twice_over_and_all_its_marks(row, marks, low, high):
    assert stretch(row, *marks) == pytest.approx((low, high))


def test_a_bar_stands_where_the_weight_is_and_coverage_is_a_table():
    row = {"low": 0.37, "high": 0.43, "target": 0.4, "weight": 0.415}
    assert places(row) == {"low": 25.0, "high": 75.0, "target": 50.0, "weight": 62.5}
    rows = [
        {"target": t, "horizon_h": h, "coverage90": c}
        for t, h, c in (("gas", 4, 0.9), ("gas", 1, 0.8), ("gas_min", 4, 0.7))
    ]
    assert coverage_rows(rows) == ([1, 4], [("gas", [0.8, 0.9]), ("gas min", [None, 0.7])])


def test_json_is_what_was_looked_at_and_another_vault_is_not_found():
    assert ask(app(), "/portfolio.json").json() == json.loads(json.dumps(DATA))
    assert ask(app(), "/?vault=other").status_code == 404
    assert ask(app(), "/settings").status_code == 404
    assert ask(app(), "/..%2f..%2fetc/passwd").status_code == 404


TOKEN = "a-token-of-some-length"


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 401),
        ("Basic " + base64.b64encode(f"x:{TOKEN}".encode()).decode(), 200),
        (f"Bearer {TOKEN}", 200),
        (f"Bearer {TOKEN}x", 401),
        ("Basic !!", 401),
        ("Basic " + base64.b64encode(b"x:").decode(), 401),
    ],
)
def test_with_a_token_only_who_has_it_reads(header, status):
    headers = {} if header is None else {"authorization": header}
    assert ask(app(token=TOKEN), headers=headers).status_code == status
    assert ask(app(token=TOKEN), "/health").status_code == 200


def test_an_address_for_others_demands_a_private_token(tmp_path):
    file = tmp_path / "token"
    with pytest.raises(ConfigError, match="token_file"):
        token_of("0.0.0.0", None)
    assert token_of("127.0.0.1", None) is None
    assert loopback("::1")
    assert not loopback("192.168.1.4")
    file.write_text(TOKEN)
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        token_of("0.0.0.0", file)
    file.chmod(0o600)
    assert token_of("0.0.0.0", file) == TOKEN
    file.write_text("short")
    with pytest.raises(ConfigError, match="5 characters, 16 are required"):
        token_of("127.0.0.1", file)
    with pytest.raises(ConfigError, match="cannot be read"):
        token_of("127.0.0.1", tmp_path / "none")


def test_stores_that_fail_are_said_and_what_was_known_stays_marked_as_old():
    answers = iter([DATA])

    def look():
        try:
            return next(answers)
        except StopIteration:
            raise StoreError("/secret/path: gone") from None

    found = Looked({"main": look})
    found.look()
    first = found.found["main"][0]
    found.look()
    found.look()
    version, data, text = found.found["main"]
    assert version == first + "-old"
    assert data == DATA
    assert "cannot be read just now; the log says why; this is of" in text
    assert "/secret/path" not in text
    never = Looked({"main": look})
    assert "being read" in never.found["main"][2]
    never.look()
    assert "cannot be read" in never.found["main"][2]
    assert "/secret" not in never.found["main"][2]


def test_a_port_answers_tells_of_changes_lets_go_and_a_taken_one_is_refused(caplog):
    port, data = free_port(), dict(DATA)
    where, kept = ("127.0.0.1", port), ExitStack()
    with page_port({"main": lambda: data}, lambda _: {}, where, every_s=0.05) as address:
        while "NAV" not in httpx.get(address, timeout=30).text:
            time.sleep(0.05)
        with httpx.stream("GET", f"{address}events") as events:
            lines = events.iter_lines()
            assert next(lines) == "event: version"
            assert len(next(lines).removeprefix("data: ")) == 16
        with pytest.raises(ConfigError, match="is it taken"), page_port({"main": lambda: data}, lambda _: {}, where):
            pass
        left_open = kept.enter_context(httpx.stream("GET", f"{address}events"))
        next(left_open.iter_lines())
        caplog.clear()
    kept.close()
    assert [r for r in caplog.records if r.levelname == "ERROR"] == []  # an open page ends in no traceback
    with pytest.raises(httpx.ConnectError):
        httpx.get(address)
