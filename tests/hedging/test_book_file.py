"""BOOK.toml: what is read is what was written, and every kind of fault is refused with its place and the remedy."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from lake.errors import ConfigError
from pipelines.stages.book_file import read_book, read_template
from pipelines.stages.greeks import greeks
from policy.hedging.instruments import Option

HEAD = "ts = 2026-03-01T12:00:00Z\n[spot]\nETH = 3000.0\n"
CASH = '[[position]]\nname = "cash"\nkind = "stable"\namount_usd = 100000\n'
CALL = {
    "name": '"call"', "kind": '"option"', "asset": '"ETH"', "quantity": "-2.0", "option": '"call"', "strike": "3000",
    "expiry": "2026-03-27T08:00:00Z", "forward": "3010.0", "vol": "0.62", "premium": '"coin"',
}  # fmt: skip
PERP = {"name": '"p"', "kind": '"perp"', "asset": '"ETH"', "quantity": "-5", "entry": "3100", "margin_usd": "4000"}
POOL = {"name": '"v3"', "kind": '"lp_v3"', "asset": '"ETH"', "liquidity": "3000", "lower": "2400", "upper": "3600"}


def rows(*positions):
    return "".join("[[position]]\n" + "".join(f"{k} = {v}\n" for k, v in p.items()) for p in positions)


def written(tmp_path, text):
    path = tmp_path / "BOOK.toml"
    path.write_text(text)
    return path


def test_the_whole_view_adds_up(tmp_path):
    found = greeks(written(tmp_path, HEAD + CASH + rows(CALL, PERP, POOL)))
    assert found["total"]["delta_usd"] == pytest.approx(sum(r["delta_usd"] for r in found["lines"]))
    assert found["total"]["value_usd"] == pytest.approx(found["nav_usd"])
    at = found["ladder"]["spot"].index(0.0), found["ladder"]["vol"].index(0.0)
    assert found["ladder"]["profit_usd"][at[0]][at[1]] == pytest.approx(0.0, abs=1e-9)
    worst = [o["profit_usd"] for o in found["stress"]]
    assert worst == sorted(worst)
    assert found["liquidation"][0]["price_usd"] == pytest.approx((5 * 3100 + 4000) / (5 * 1.01))


def test_a_short_perp_is_liquidated_by_a_rise_and_named(tmp_path):
    from policy.hedging.book import Shift, price_of
    from policy.hedging.stress import liquidated, scenarios

    book = read_book(written(tmp_path, HEAD + rows(PERP)))
    at = (5 * 3100 + 4000) / (5 * 1.01) / price_of(book, "ETH") - 1
    assert liquidated(book, Shift(spot=at + 1e-9)) == ("p",)
    assert liquidated(book, Shift(spot=at - 1e-9)) == ()
    assert scenarios(book, {"rise": Shift(spot=0.5)})[0].liquidated == ("p",)


def test_volatility_is_taken_from_the_mark(tmp_path):
    mark = {**CALL, "mark": "0.0668"}
    del mark["vol"]
    option = read_book(written(tmp_path, HEAD + rows(mark))).positions[0]
    assert isinstance(option, Option)
    assert 0.55 < option.vol < 0.70


BAD = {
    "strike of zero": ({"strike": "0"}, "strike = 0: must be above zero"),
    "negative volatility": ({"vol": "-0.5"}, "vol = -0.5: must be above zero"),
    "per cent": ({"vol": "62"}, "write 0.62 for 62 %"),
    "over 500 %": ({"vol": "5.01"}, "over 500 % a year"),
    "expired": ({"expiry": "2026-02-27T08:00:00Z"}, "is not after the book's ts"),
    "naive": ({"expiry": "2026-03-27T08:00:00"}, "has no zone"),
    "no moment": ({"expiry": '"soon"'}, "a moment like"),
    "contracts": ({"unit": '"contracts"'}, "multiply contracts by the contract size"),
    "usd mark as coins": ({"mark": "207.5"}, "is it in USD"),
    "coin mark as usd": ({"mark": "0.0668", "premium": '"usd"'}, 'write premium = "coin"'),
    "usd above forward": ({"mark": "3500", "premium": '"usd"'}, "above the forward itself"),
    "unknown premium": ({"premium": '"eur"'}, "coin or usd is required"),
    "no forward": ({"forward": None}, "forward is missing"),
    "zero forward": ({"forward": "0.0"}, "forward = 0.0: must be above zero"),
    "crossed": ({"bid": "0.05", "ask": "0.04"}, "a crossed quote"),
    "nan": ({"quantity": "nan"}, "quantity = nan: a finite number"),
    "infinite": ({"vol": "inf"}, "vol = inf: a finite number"),
    "text": ({"quantity": '"two"'}, "a finite number"),
    "truth value": ({"quantity": "true"}, "a finite number"),
    "unknown field": ({"strik": "1"}, "'strik' is no field of a option"),
    "unpriced": ({"vol": None}, "vol is missing, and there is no mark"),
    "below intrinsic": ({"vol": None, "mark": "0.001", "strike": "2500"}, "at or below intrinsic"),
    "no underlying": ({"asset": '"SOL"'}, "no spot price of 'SOL'"),
    "unknown kind": ({"kind": '"barrier"'}, "kind = 'barrier'"),
    "neither": ({"option": '"straddle"'}, "call or put is required"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_refused_with_place_and_remedy(tmp_path, name):
    change, said = BAD[name]
    row = {k: v for k, v in {**CALL, **change}.items() if v is not None}
    with pytest.raises(ConfigError) as refused:
        read_book(written(tmp_path, HEAD + CASH + rows(row)))
    assert said in str(refused.value)
    assert "position 2 (call)" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEAD + CASH + CASH, "two positions are named 'cash'"),
        (HEAD, "no [[position]]"),
        (HEAD.replace("Z", "") + CASH, "has no zone"),
        (CASH, "ts = None"),
        (HEAD.replace("3000.0", "-1") + CASH, "spot.ETH = -1"),
        (HEAD.replace("3000.0", "nan") + CASH, "spot.ETH = nan"),
        ("nav_usd = 0\n" + HEAD + CASH, "nav_usd = 0"),
        ("nav = 1\n" + HEAD + CASH, "'nav' is no key of a book"),
        (HEAD + rows({**POOL, "lower": "4000"}), "is not below upper"),
        (HEAD + rows({**POOL, "liquidity": "-1"}), "must not be negative"),
        (HEAD + rows({**PERP, "entry": "0"}), "entry = 0: must be above zero"),
        ("ts = [", "not TOML"),
    ],
)
def test_bad_books_are_refused(tmp_path, text, said):
    with pytest.raises(ConfigError) as refused:
        read_book(written(tmp_path, text))
    assert said in str(refused.value)


def test_all_faults_are_told_at_once(tmp_path):
    with pytest.raises(ConfigError) as refused:
        read_book(written(tmp_path, HEAD + rows({**CALL, "vol": "62"}, {**PERP, "entry": "0"})))
    assert "write 0.62" in str(refused.value)
    assert "entry = 0" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no [hedge] section"),
        ('[hedge]\ntemplate = "barrier"\nasset = "ETH"', "straddle or lp"),
        ('[hedge]\ntemplate = "lp"', "asset is missing"),
        ('[hedge]\ntemplate = "lp"\nasset = "ETH"\nwidth = 1.5', "width = 1.5"),
        ('[hedge]\ntemplate = "straddle"\nasset = "ETH"\nroll_d = 40', "roll_d must be less"),
        ('[hedge]\ntemplate = "straddle"\nasset = "ETH"\ngamma = 3\nte_target = 0.1', "either gamma or te_target"),
        ('[hedge]\ntemplate = "straddle"\nasset = "ETH"\nnav = 3', "'nav' is no key"),
    ],
)
def test_bad_templates_are_refused(tmp_path, text, said):
    with pytest.raises(ConfigError) as refused:
        read_template(written(tmp_path, text))
    assert said in str(refused.value)


def test_the_verb_prints_json_and_one_line_for_a_fault(tmp_path):
    command = [sys.executable, "-m", "pipelines.cli", "greeks"]
    good = written(tmp_path, HEAD + CASH + rows(CALL))
    done = subprocess.run([*command, str(good), "--json", "-"], capture_output=True, text=True)
    assert done.returncode == 0
    assert {a["asset"] for a in json.loads(done.stdout)["assets"]} == {"USD", "ETH"}
    bad = written(tmp_path, HEAD + rows({**CALL, "vol": "62"}))
    done = subprocess.run([*command, str(bad)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "write 0.62 for 62 %" in done.stderr
