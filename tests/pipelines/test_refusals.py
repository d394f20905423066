"""What verbs and stages refuse: the field that is wrong and what to do, before anything is written."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from lake.errors import ConfigError, DataError, ForedriftError, NotEnoughData
from lake.store import Lake
from lake.units import utc
from pipelines import settings as settings_module
from pipelines.cli import app
from pipelines.commands.options import pairs, write_json
from pipelines.experiments import saved_view
from pipelines.reports import hedge_page
from pipelines.scheduled.chat import VARIABLE, take_token
from pipelines.scheduled.claims import Claims, place_of, shard_of
from pipelines.scheduled.page import LEAST_TOKEN, PortTaken, page_port, token_of
from pipelines.servers import phrase
from pipelines.servers.engines import engine_of
from pipelines.servers.prefect_server import PASSWORD, password_of
from pipelines.servers.subprocesses import wait_until_healthy
from pipelines.stages.book_file import document
from pipelines.stages.chains_compare import MOST, chain_ids
from pipelines.stages.vault_deploy import amount_of
from pipelines.stages.volatility import hourly, implied, read_index
from policy.execution.records.owner import OwnedElsewhere, owning

T0 = datetime(2024, 1, 1, tzinfo=UTC)


def said(*words: str, folder: Path | None = None) -> str:
    """Run a verb that must be refused as bad usage; return the words of the refusal."""
    if folder is not None and "-c" not in words:
        words = (*words, "-c", str(folder / "foredrift.toml"))
    done = CliRunner().invoke(app, list(words))
    assert isinstance(done.exception, ConfigError), (done.output, done.exception)
    return str(done.exception)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "foredrift.toml").write_text("[policy]\nkind = 'gas_band'\n")
    return tmp_path


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (["rebalance", "--propose", "--as-of", "2024-01-01"], "--as-of replays history; a proposal is of the present"),
        (["rebalance", "--out", "b.json"], "--out is where --propose writes the batch"),
        (["vault", "roles", "--live"], "--live and --owner KEYSTORE belong together: the owner's key signs"),
        (["vault", "permissioned", "maybe"], "write on or off, got 'maybe'"),
        (["vault", "permissioned", "on", "--live"], "--live and --owner KEYSTORE belong together"),
        (["attribution", "c.parquet", "--portfolio", "p"], "give either a CHAIN.parquet or --portfolio NAME"),
        (["greeks"], "give either a BOOK.toml or --portfolio NAME"),
        (["greeks", "b.toml", "--as-of", "2024-01-01"], "--as-of is for --portfolio; a BOOK.toml says its own ts"),
        (["ingest", "mars"], "no source matches ['mars']; configured are none: add a [sources.*] section"),
        (["compare", "--engine", "dask", "--resolution", "block"], "shares one world in memory; take threads"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_a_verb_refuses_what_does_not_go_together(project, words, refusal):
    assert refusal in said(*words, folder=project)
    assert not (project / "lake.data").exists()


def test_init_never_writes_over_a_file_unless_it_is_told_to(project):
    before = (project / "foredrift.toml").read_text()
    assert "is there already; --force overwrites it" in said("init", folder=project)
    assert (project / "foredrift.toml").read_text() == before
    done = CliRunner().invoke(app, ["init", "--force", "-c", str(project / "foredrift.toml")])
    assert done.exit_code == 0, done.output
    assert (project / "foredrift.toml").read_text() != before


@given(text=st.text(max_size=9))
def test_a_pair_is_split_at_its_first_sign_and_a_half_one_is_refused(text):
    left, sign, right = text.partition("=")
    if sign and left and right:
        assert pairs([text], "--map") == {left.strip(): right.strip()}
    else:
        with pytest.raises(ConfigError, match="write --map left=right"):
            pairs([text], "--map")


def test_json_is_replaced_whole_or_left_as_it_was(tmp_path):
    target = tmp_path / "deep" / "out.json"
    write_json(str(target), {"b": 1.0000000000000002, "a": T0})
    assert json.loads(target.read_text()) == {"b": 1.0000000000000002, "a": str(T0)}
    assert target.read_text().index('"b"') < target.read_text().index('"a"')
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(str(target), {"x": float("nan")})
    assert json.loads(target.read_text())["b"] == 1.0000000000000002
    with pytest.raises(ConfigError, match="is a folder; name a file in it, or - for stdout"):
        write_json(str(tmp_path), {})
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["out.json"]


@given(place=st.integers(1, 9_999), of=st.integers(1, 9_999))
def test_a_shard_is_a_place_among_its_processes(place, of):
    if place <= of:
        assert shard_of(f"{place}/{of}") == (place - 1, of)
    else:
        with pytest.raises(ConfigError, match="write I/N with 1 <= I <= N"):
            shard_of(f"{place}/{of}")


@pytest.mark.parametrize("text", ["", "0/2", "1/0", "1", "1/2/3", "-1/2", "1/2 ", "a/b", "10000/10000", "01/2"])
def test_what_is_no_shard_is_refused_with_an_example(text):
    with pytest.raises(ConfigError, match="for example 2/4"):
        shard_of(text)
    assert shard_of(None) == (0, 1)


@given(names=st.lists(st.text(min_size=1, max_size=8), unique=True, min_size=1, max_size=30), of=st.integers(1, 6))
def test_every_vault_belongs_to_one_process_whatever_the_others_are_called(names, of):
    places = {name: place_of(name, of) for name in names}
    assert all(0 <= p < of for p in places.values())
    assert places == {name: place_of(name, of) for name in reversed(names)}
    assert {place_of(name, 1) for name in names} == {0}


def test_a_process_without_a_vault_of_its_own_says_so_and_lets_go_of_none(tmp_path):
    journals = {f"v{i}": tmp_path / f"v{i}" / "journal" for i in range(4)}
    for file in journals.values():
        file.parent.mkdir()
    empty = next(k for k in range(64) if k not in {place_of(n, 64) for n in journals})
    with pytest.raises(OwnedElsewhere, match=f"shard {empty + 1}/64 has no vault .* there are 4 vaults"):
        Claims(journals, (empty, 64)).__enter__()
    with Claims(journals) as mine:
        assert set(mine.owned) == set(journals)
    with Claims(journals) as again:
        assert set(again.owned) == set(journals), "what was owned is free again"
    with owning(journals["v0"], 0.1), pytest.raises(OwnedElsewhere):
        Claims(journals).__enter__()
    with Claims(journals) as after:
        assert set(after.owned) == set(journals)


def secret(folder: Path, text: str, mode: int = 0o600) -> Path:
    file = folder / "secret"
    file.write_text(text)
    file.chmod(mode)
    return file


def test_the_chat_s_token_is_taken_out_of_the_environment_or_read_from_a_file_of_ours(tmp_path, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.delenv(VARIABLE + "_FILE", raising=False)
    assert take_token() is None
    monkeypatch.setenv(VARIABLE, " 12:token ")
    assert take_token() == "12:token"
    assert VARIABLE not in os.environ
    monkeypatch.setenv(VARIABLE + "_FILE", str(secret(tmp_path, "12:other\n")))
    assert take_token() == "12:other"
    secret(tmp_path, "12:other", 0o640)
    with pytest.raises(ConfigError, match="is open to others: chmod 600") as refused:
        take_token()
    assert "12:other" not in str(refused.value)
    monkeypatch.setenv(VARIABLE + "_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=f"the file of {VARIABLE}_FILE cannot be read: FileNotFoundError"):
        take_token()


@pytest.mark.parametrize("bind", ["0.0.0.0", "192.168.1.5", "::"])  # noqa: S104 - named, not bound
def test_a_page_for_other_machines_has_a_password_of_its_own(tmp_path, bind):
    with pytest.raises(ConfigError, match="lets other machines ask: set token_file, or bind to 127.0.0.1"):
        token_of(bind, None)
    with pytest.raises(ConfigError, match="token_file none cannot be read: FileNotFoundError"):
        token_of(bind, tmp_path / "none")
    with pytest.raises(ConfigError, match="is open to others: chmod 600"):
        token_of(bind, secret(tmp_path, "x" * LEAST_TOKEN, 0o644))
    short = secret(tmp_path, "x" * (LEAST_TOKEN - 1))
    with pytest.raises(ConfigError, match=f"holds {LEAST_TOKEN - 1} characters, {LEAST_TOKEN} are required"):
        token_of(bind, short)
    assert token_of(bind, secret(tmp_path, "y" * LEAST_TOKEN + "\n")) == "y" * LEAST_TOKEN


def test_a_port_that_is_taken_ends_the_page_in_words():
    assert token_of("127.0.0.1", None) is None
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(PortTaken, match=r"is it taken\? Set \[page\] port to another one"):
            page_port({}, lambda *_: None, ("127.0.0.1", port)).__enter__()


def test_a_passphrase_file_is_read_only_where_nobody_else_can(tmp_path, monkeypatch):
    def given_by(file: Path) -> str | None:
        monkeypatch.setenv(phrase.FILE_VARIABLE, str(file))
        return phrase.passphrase()

    monkeypatch.delenv("FOREDRIFT_PASSPHRASE", raising=False)
    monkeypatch.setattr(phrase, "_taken", None, raising=False)
    assert given_by(secret(tmp_path, "words of mine\r\n")) == "words of mine"
    for text, mode, words in (("words", 0o604, "chmod 600"), ("\n", 0o600, "which is empty")):
        with pytest.raises(ConfigError, match=words) as refused:
            given_by(secret(tmp_path, text, mode))
        assert "words" not in str(refused.value).replace(str(tmp_path), "")
    with pytest.raises(ConfigError, match="which cannot be read: FileNotFoundError"):
        given_by(tmp_path / "none")


def test_the_scheduler_s_password_is_made_once_and_a_torn_one_is_not_taken(tmp_path):
    made = password_of(tmp_path)
    assert made.startswith("foredrift:")
    assert len(made) > 40
    assert password_of(tmp_path) == made
    assert (tmp_path / PASSWORD).stat().st_mode & 0o777 == 0o600
    (tmp_path / PASSWORD).write_text("")
    with pytest.raises(ConfigError, match="holds no password; remove it, and `foredrift serve` makes a new one"):
        password_of(tmp_path)


def test_a_server_that_ends_at_its_start_is_told_with_its_code_and_where_to_look():
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
    process.wait()
    with pytest.raises(ForedriftError, match="the server ended at start with code 3; see the log"):
        wait_until_healthy(process, "http://127.0.0.1:9/", "see the log")


@pytest.mark.parametrize("name", ["", "Dask", "ray", "threads=2"])
def test_an_engine_is_threads_or_dask(tmp_path, name):
    with pytest.raises(ConfigError, match="choose threads, dask, or dask=tcp://HOST:PORT"):
        engine_of(name, 1, tmp_path)
    assert engine_of("threads", 1, tmp_path) is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1;10", "give chain ids with commas between them"),
        ("", "give chain ids with commas between them"),
        ("1,1", f"give at most {MOST} chains, each once"),
        ("10,1", "put 1 first"),
        ("1,999999", "999999"),
    ],
)
def test_chains_to_compare_are_ids_with_the_recorded_one_first(text, words):
    with pytest.raises(ConfigError, match=words):
        chain_ids(text)
    assert chain_ids("1,10,8453") == (1, 10, 8453)


@given(units=st.integers(1, 10**9), cents=st.integers(0, 99))
def test_an_amount_is_taken_to_the_last_digit(units, cents):
    assert amount_of(f"{units}.{cents:02d}") == Decimal(units) + Decimal(cents) / 100
    assert amount_of(f"{units:_}") == units


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "all", "", "1e99", "1,000"])
def test_what_is_no_amount_is_refused_with_examples(text):
    with pytest.raises(ConfigError, match="a positive number of units, such as 100000 or 2500.50"):
        amount_of(text)
    assert amount_of(None) is None


@pytest.mark.parametrize("text", ["2024-01-01", "2024-01-01,2024-01-02", "a,b,c", "2024-01-01,2024-01-02,fast"])
def test_a_replayed_clock_has_three_parts(monkeypatch, text):
    monkeypatch.setenv("FOREDRIFT_REPLAY", text)
    with pytest.raises(ConfigError, match="SIMULATED_START,REAL_START,SPEED|is no date"):
        settings_module.replay()
    monkeypatch.setenv("FOREDRIFT_REPLAY", "2024-01-01,2024-06-01T12:00Z,60")
    assert settings_module.replay() == (T0, utc("2024-06-01T12:00Z"), 60.0)


def test_a_book_that_is_no_toml_names_the_line(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        document(tmp_path / "none.toml")
    (tmp_path / "b.toml").write_text('ts = "2024-01-01"\n[spot\n')
    with pytest.raises(ConfigError, match=r"not TOML: .*line 2"):
        document(tmp_path / "b.toml")


def test_a_stored_view_comes_back_and_anything_else_is_none():
    view = {"name": "costs", "rows": list(range(50)), "text": "ä"}
    assert saved_view.decode(saved_view.encode(view)) == view
    with pytest.raises(ValueError, match="not a stored view: it starts with 'something el'"):
        saved_view.decode("something else")


@pytest.mark.parametrize(
    ("text", "words"),
    [("{", "cannot be read as JSON"), ("[1]", "holds no JSON object"), ("{}", "neither of attribution --json nor")],
)
def test_the_hedge_page_takes_only_what_verbs_write(tmp_path, text, words):
    file = tmp_path / "x.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=words):
        hedge_page.write_page(tmp_path / "page.html", {}, [file])
    assert not (tmp_path / "page.html").exists()


def days(values: list[float], asset: str = "ETH", step: timedelta = timedelta(days=1)) -> pl.DataFrame:
    rows = {"ts": [T0 + i * step for i in range(len(values))], "asset": asset, "close": values}
    return pl.DataFrame(rows, schema_overrides={"close": pl.Float64})


SPAN = (T0, T0 + timedelta(days=90))


@given(points=st.lists(st.floats(2, 300), min_size=1, max_size=20))
def test_vol_points_are_a_variance_a_year(points):
    assert implied(days(points), "f", "ETH", SPAN) == pytest.approx((np.array(points) / 100) ** 2)


@pytest.mark.parametrize(
    ("rows", "asset", "error", "words"),
    [
        (days([60.0]), "BTC", NotEnoughData, "f: no rows of BTC in the span"),
        (days([60.0, 0.65]), "ETH", DataError, "close 0.65 at 2024-01-02.*vol points .65 for 65 %. needed"),
        (days([60.0, float("nan")]), "ETH", DataError, "vol points .65 for 65 %. needed"),
        (days([60.0, 61.0], step=timedelta(hours=1)), "ETH", DataError, "1 steps are not one day; give one row a day"),
    ],
)
def test_an_index_in_another_unit_or_pace_is_refused(rows, asset, error, words):
    with pytest.raises(error, match=words):
        implied(rows, "f", asset, SPAN)


def test_an_index_file_without_columns_or_zone_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        read_index(tmp_path / "none.parquet")
    days([60.0]).drop("asset").write_parquet(tmp_path / "i.parquet")
    with pytest.raises(DataError, match="columns asset are missing; ts, asset and close are required"):
        read_index(tmp_path / "i.parquet")
    days([60.0]).with_columns(pl.col("ts").dt.replace_time_zone(None)).write_parquet(tmp_path / "n.parquet")
    with pytest.raises(DataError, match="aware UTC time stamps are required: say which zone they are"):
        read_index(tmp_path / "n.parquet")


def test_hourly_bars_begin_at_a_midnight_and_a_missing_hour_is_no_price(tmp_path):
    lake = Lake(str(tmp_path / "lake"))
    with pytest.raises(NotEnoughData, match="no hourly bars of ETH in the lake; foredrift import prices FILE"):
        hourly(lake, "ETH", SPAN)
    opens = [T0 + timedelta(hours=h) for h in range(5, 80) if h != 50]
    lake.write("prices", pl.DataFrame({
        "source": "s", "asset": "ETH", "step": 3_600, "ts": opens, "close": [100.0 + i for i in range(len(opens))],
        "available_at": [t + timedelta(hours=1) for t in opens],
    }))  # fmt: skip
    closes = hourly(lake, "ETH", SPAN)
    first = T0 + timedelta(days=1)
    assert closes[0] == 100.0 + opens.index(first - timedelta(hours=1))
    assert [i for i, c in enumerate(closes) if np.isnan(c)] == [51 - 24]
