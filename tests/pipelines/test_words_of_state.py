"""What status and reports say: fresh or stale, advice with the command that helps, a decision in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.monitor.model_status import models_in_force, note
from pipelines.reports.decision import _amount, as_markdown, as_shown, rules_off_chain
from pipelines.reports.nulls import complete_rows, nan_to_none
from pipelines.stages.status import _advice, _old_models, _tables, _untradable
from pipelines.stages.thresholds import schedule_sentence
from policy.execution.base import Hop, Leg, Plan, Token
from policy.execution.checks.verdicts import passed, refused
from policy.execution.context import StepReport

AT = datetime(2024, 3, 14, 15, tzinfo=UTC)


def series(table: str, hours_old: float | None, future: int = 0) -> pl.DataFrame:
    age = None if hours_old is None else timedelta(hours=hours_old)
    last = AT - timedelta(hours=(hours_old or 0) + 24)  # a day's row is known a day after its time
    row = {
        "table": table, "key": "s/ETH/3600", "rows": 10, "first": AT - timedelta(days=9), "last": last, "age": age,
        "gaps": 0, "future": future,
    }  # fmt: skip
    return pl.DataFrame([row])


@pytest.mark.parametrize(
    ("table", "hours_old", "future", "state"),
    [
        ("prices", 1.0, 0, "fresh"),
        ("prices", 3.1, 0, "stale"),
        ("signals", 20.0, 0, "fresh"),
        ("signals", 28.0, 0, "stale"),
        ("prices", 1.0, 2, "future"),
    ],
)
def test_a_series_is_stale_after_what_is_allowed_and_a_daily_one_a_day_later(table, hours_old, future, state):
    [row] = _tables(series(table, hours_old, future), 3.0)
    assert row["state"] == state
    assert row["age_h"] == pytest.approx(hours_old)


def row_of(state: str, table: str = "prices") -> dict:
    return {"table": table, "series": "s/ETH/3600", "state": state, "future": 3}


def test_advice_names_what_to_run_and_nothing_is_said_where_all_is_well():
    fresh = [{"target": "gas", "age_h": 0.5}]
    assert _advice([row_of("fresh")], fresh, 3.0) == []
    assert "foredrift ingest" in _advice([], [], 3.0)[0]
    stale = _advice([row_of("stale"), row_of("stale", "gas")], fresh, 3.0)
    assert len(stale) == 1
    assert "older than 3 h: gas, prices" in stale[0]
    ahead = _advice([row_of("future")], fresh, 3.0)[0]
    assert "s/ETH/3600 (3)" in ahead
    assert "foredrift lake undo" in ahead
    assert _advice([row_of("fresh")], [], 3.0) == ["no forecasts yet: foredrift train"]
    assert "foredrift forecast" in _advice([row_of("fresh")], [{"target": "gas", "age_h": 4.0}], 3.0)[0]


@given(age=st.floats(0.0, 100.0))
def test_a_model_is_old_when_it_is_past_its_expiry(age):
    said = _old_models("30d", [{"family": "gas", "age_d": age}])
    assert bool(said) == (age > 30)
    assert not said or ("gas" in said[0] and "foredrift train" in said[0])


def test_models_in_force_are_what_the_last_forecast_run_saw(tmp_path):
    path = tmp_path / ".foredrift" / "models.json"
    assert models_in_force(path, AT) == {"models": [], "coverage": []}
    note(path, AT, {"gas": ("v1", AT - timedelta(days=3))}, {("gas", 3_600): (0.91, 40)})
    found = models_in_force(path, AT + timedelta(days=1))
    assert found["models"] == [
        {"family": "gas", "version": "v1", "trained_until": (AT - timedelta(days=3)).isoformat(), "age_d": 4.0}
    ]
    assert found["coverage"] == [{"target": "gas", "horizon_h": 1, "coverage90": 0.91, "outcomes": 40}]
    assert path.stat().st_mode & 0o077 == 0
    assert [p.name for p in path.parent.iterdir()] == ["models.json"]


def test_tokens_left_alone_are_those_of_the_last_decision():
    import json

    sick = json.dumps([{"check": "token_untradable", "reason": "LINK cannot be sold"}, {"check": "x", "reason": "y"}])
    assert _untradable(pl.DataFrame({"verdicts": ["[]", sick]})) == ["LINK cannot be sold"]
    assert _untradable(pl.DataFrame({"verdicts": [sick, ""]})) == []
    assert _untradable(pl.DataFrame({"verdicts": []}, schema={"verdicts": pl.String})) == []


def minutes(*ratios: float) -> pl.DataFrame:
    return pl.DataFrame(
        {"minute": [5 * i for i in range(len(ratios))], "ratio": list(ratios), "error": [0.01] * len(ratios)}
    )


@pytest.mark.parametrize(
    ("cron", "words"),
    [("6 * * * *", "the schedule's :06 pays +2.0% +- 1.0%"), ("*/5 * * * *", ""), ("0 * * * *", ":00 pays -3.0%")],
)
def test_the_minute_of_the_schedule_is_judged_where_it_has_one(cron, words):
    said = schedule_sentence(minutes(0.97, 1.02, *[1.0] * 10), cron)
    assert said.startswith("gas is cheapest at :00, -3.0% +- 1.0% against the hour's mean")
    assert words in said
    assert ("schedule" in said) == bool(words)
    assert "no whole day" in schedule_sentence(minutes(), cron)


values = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=4),
    max_leaves=12,
)


def holds_nan(value: object) -> bool:
    if isinstance(value, dict):
        return any(holds_nan(v) for v in value.values())
    if isinstance(value, list):
        return any(holds_nan(v) for v in value)
    return isinstance(value, float) and value != value  # noqa: PLR0124


@given(value=values)
def test_nothing_undefined_is_left_and_what_is_defined_stays(value):
    once = nan_to_none(value)
    assert not holds_nan(once)
    assert nan_to_none(once) == once
    if not holds_nan(value):
        assert once == value


@given(rows=st.lists(st.dictionaries(st.sampled_from("ab"), st.none() | st.integers(), min_size=1), max_size=6))
def test_complete_rows_have_no_null(rows):
    found = complete_rows({"pairs": rows}, "pairs")
    assert found == [r for r in rows if all(v is not None for v in r.values())]


USDC, ETH = Token("USDC", "0x" + "a" * 40, 6), Token("ETH", "0x" + "b" * 40, 18)
SEEN = SimpleNamespace(tokens=(USDC, ETH), targets_bps=(4_000, 6_000))


@pytest.mark.parametrize(
    ("token", "raw", "text"),
    [
        (USDC, 32_906_410_000, "32,906.41 USDC"),
        (USDC, 1_500_000, "1.50000 USDC"),
        (ETH, 10**15, "0.00100000 ETH"),
        (ETH, 0, "0.00 ETH"),
        (ETH, 12_345 * 10**18, "12,345.00 ETH"),
        (None, 7, "7"),
    ],
)
def test_amounts_are_written_as_people_write_them(token, raw, text):
    assert _amount(token, raw) == text


@given(raw=st.integers(1, 10**30))
def test_an_amount_keeps_six_digits_at_least(raw):
    text = _amount(ETH, raw).removesuffix(" ETH").replace(",", "")
    assert float(text) == pytest.approx(raw / 1e18, rel=1e-5)


def decided() -> StepReport:
    hop = Hop("uniswap_v3", "0xpool", USDC.address, ETH.address, 500)
    leg = Leg(USDC.address, ETH.address, 3_000 * 10**6, 10**18, 10**18, (hop,), "0xrouter")
    plan = Plan("d1", "0xv", 1, 0, 2**40, 0, (leg,), b"", 1, "0x")
    verdicts = [passed("chain", "chain 1"), refused("gas_ceiling", "too much")]
    return StepReport(
        outcome="refused", action="trade", why="drift beyond the band", decision_id="d1", plan=plan, verdicts=verdicts,
        assets=("USDC", "ETH"), weights_before=(0.5, 0.5), weights_wanted=(0.4, 0.6), weights_after=(),
    )  # fmt: skip


def test_a_decision_is_shown_with_amounts_as_signed_and_as_read():
    shown = as_shown(decided(), "gas_band decides: no forecast", SEEN)
    assert shown["weights"] == [["USDC", 0.5, 0.4, 0.4, None], ["ETH", 0.5, 0.6, 0.6, None]]
    assert shown["legs"] == [["USDC", "ETH", "3000000000", str(10**18), "uniswap_v3"]]
    assert shown["moves"] == [["USDC", "ETH", "3,000.00 USDC", "1.00000 ETH", "uniswap_v3"]]
    assert shown["summary"] == "trade; drift beyond the band; gas_band decides: no forecast"


def test_a_decision_in_markdown_has_its_weights_and_every_verdict():
    text = as_markdown(as_shown(decided(), "", SEEN))
    assert text.startswith("**refused** trade; drift beyond the band")
    assert "| ETH | 50.00 % | 60.00 % |" in text
    assert "- ok: the chain is the right one and recent (chain 1)" in text
    assert "- refused: gas is dearer than may be offered (too much)" in text


def test_rules_that_a_vault_does_not_enforce_are_named():
    names = ("onchain_price_bound", "loss_budget", "progress_rule", "plan_nonce", "deadline")
    every, none = (SimpleNamespace(**dict.fromkeys(names, on)) for on in (True, False))
    assert rules_off_chain(every) == []
    assert rules_off_chain(none) == ["price bound", "loss budget", "progress rule", "plan nonce", "deadline"]
