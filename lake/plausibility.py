"""Values that can be stored but not believed: price jumps beyond anything seen, gas in the wrong unit, empty headers.

Nothing is deleted here. A suspect row is flagged whenever it is looked at, whatever brought it (import, ingest, a
write), and stays flagged until somebody confirms it with ``foredrift lake accept``. Who decides asks :func:`flagged`
and holds back what it returns.
"""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl

from lake.errors import ConfigError
from lake.store import Lake
from lake.tables import UTC_US, table

GAS_CEILING_GWEI = (
    1e5  # the highest base fee of any block on record is below a tenth of this; wei taken for gwei is above
)
GAS_FLOOR_GWEI = 1e-4  # of chains whose base fee is never 0: a hundredth of the least on record; ether is below
FIRST_JUMP = 0.405  # abs(log return) of one hour, ln 1.5: below it nothing is a jump, whatever came before
LARGEST_JUMP = 1.386  # ln 4: above it a bar is a jump over any spacing; between them it grows with the root of time
BEYOND_EVER = 1.5  # a jump exceeds the largest earlier move of its series by this factor
ALWAYS_BASE_FEE = (1,)  # chains whose base fee is never 0; elsewhere 0 is a price
_ROUNDS = 12  # passes until no flag changes what counts as "earlier"; real series settle in two

LARGE_ROWS = 1_000_000  # bars looked at together: about 150 MB with what is worked out from them

KEYS = ["source", "asset", "step"]
COLUMNS = {
    "prices": [*KEYS, "ts", "close", "available_at"],
    "gas": ["chain_id", "ts", "base_fee_gwei", "priority_fee_gwei", "available_at"],
}
"""What is read of each table that is looked at."""
SCHEMA = {
    "table": pl.String(), "series": pl.String(), "ts": UTC_US, "available_at": UTC_US, "reason": pl.String(),
    "value": pl.Float64(), "before": pl.Float64(), "text": pl.String(),
}  # fmt: skip
"""Columns of what :func:`flagged` returns."""


def flagged(lake: Lake, name: str, as_of: datetime | None = None, since: datetime | None = None) -> pl.DataFrame:
    """Return the suspect rows of table ``name`` that nobody accepted, known by ``as_of``, with time from ``since``.

    Columns: ``table``, ``series`` (key columns without time, joined by ``/``, e.g. ``binance/ETH/3600`` or ``1``),
    ``ts``, ``available_at``, ``reason`` (``price_jump``, ``gas_implausible``), ``value``, ``before`` (the value it is
    judged against, null where none), ``text`` (one sentence). Other tables than prices and gas have no such rows.
    """
    nothing = pl.DataFrame(schema=SCHEMA)
    if name not in COLUMNS:
        return nothing
    rows = lake.scan(name, as_of)
    parts = [suspects(name, part, since) for part in ([rows] if as_of is not None else _parts(name, rows))]
    found = pl.concat([nothing, *parts]).sort("series", "ts")
    return found if found.is_empty() else _unaccepted(found, accepted(lake, name))


def suspects(name: str, rows: pl.DataFrame | pl.LazyFrame, since: datetime | None = None) -> pl.DataFrame:
    """Return the suspect ones among ``rows`` of table ``name`` (whole series, any order); columns as in flagged."""
    if name not in COLUMNS:
        return pl.DataFrame(schema=SCHEMA)
    wanted = rows.lazy().select(COLUMNS[name])
    if name == "gas":
        found = _gas(wanted)
    else:
        bars = wanted.collect()
        if since is not None and not _moves(_lately(bars, since))["flag"].any():
            return pl.DataFrame(schema=SCHEMA)  # no bar since then moved enough to be one, whatever came before
        found = _jumps(bars)
    return found if since is None else found.filter(pl.col("ts") >= since)


def _parts(name: str, rows: pl.LazyFrame) -> list[pl.LazyFrame]:
    """Return ``rows`` in parts of whole series that fit in memory: a large table is looked at asset by asset."""
    if name != "prices" or rows.select(pl.len()).collect().item() <= LARGE_ROWS:
        return [rows]
    parts: list[list[str]] = [[]]
    held = 0
    for asset, count in rows.group_by("asset").len().sort("asset").collect(engine="streaming").iter_rows():
        if parts[-1] and held + count > LARGE_ROWS:
            parts.append([])
            held = 0
        parts[-1].append(asset)
        held += count
    return [rows.filter(pl.col("asset").is_in(assets)) for assets in parts]


def accept(lake: Lake, name: str, series: str, start: datetime, end: datetime, note: str) -> int:
    """Confirm the suspect rows of one series with ``start <= ts <= end``; return how many were suspect until now.

    Safe to repeat. ``note`` says who looked and why it is right; it is kept in table ``accepted``.
    """
    if not note.strip():
        raise ConfigError("accepting implausible rows needs a note that says why they are right")
    waiting = flagged(lake, name).filter(pl.col("series") == series, pl.col("ts").is_between(start, end))
    if waiting.is_empty():
        return 0
    row = {"table": name, "series": series, "start": start, "end": end, "note": note, "available_at": datetime.now(UTC)}
    lake.write("accepted", pl.DataFrame([row], schema=table("accepted").columns))
    return waiting.height


def accepted(lake: Lake, name: str) -> pl.DataFrame:
    """Return what was confirmed of table ``name``: series, start, end (both included), note, available_at."""
    return lake.scan("accepted").filter(pl.col("table") == name).drop("table").collect()


def _unaccepted(found: pl.DataFrame, confirmed: pl.DataFrame) -> pl.DataFrame:
    if confirmed.is_empty():
        return found
    settled = (
        found.select("series", "ts")
        .join(confirmed.select("series", "start", "end"), on="series")
        .filter(pl.col("ts").is_between("start", "end"))
    )
    return found.join(settled, on=["series", "ts"], how="anti", maintain_order="left")


def _jumps(rows: pl.DataFrame) -> pl.DataFrame:
    """Bars whose close moved further from the bar before than the series ever did, allowing for gaps in time."""
    keys, moves = KEYS, _moves(rows)
    for _ in range(_ROUNDS):
        ever = pl.when(~pl.col("flag")).then("move").cum_max().forward_fill().shift(1).over(keys).fill_null(0.0)
        beyond = (pl.col("move") > pl.max_horizontal("floor", BEYOND_EVER * ever)).fill_null(value=False)
        again = moves.with_columns(flag=beyond)
        if again["flag"].equals(moves["flag"]):
            break
        moves = again
    text = pl.format(
        "{} went from {} to {} in one bar, further than it ever did: a new unit, a redenomination or a bad row?",
        "asset", "before", "close",
    )  # fmt: skip
    return _as_flags("prices", moves.filter("flag"), keys, "price_jump", "close", text)


def _moves(rows: pl.DataFrame) -> pl.DataFrame:
    """Return bars by series with ``move`` (abs log return), ``floor`` and ``flag``: whether it is above that."""
    gap_h = (pl.col("ts").diff().dt.total_seconds() / 3_600).over(KEYS)
    floor = (FIRST_JUMP * gap_h.sqrt()).clip(FIRST_JUMP, LARGEST_JUMP)
    return (
        rows.select(COLUMNS["prices"])
        .sort(*KEYS, "ts")
        .with_columns(before=pl.col("close").shift(1).over(KEYS), floor=floor)
        .with_columns(move=(pl.col("close") / pl.col("before")).log().abs())
        .with_columns(flag=(pl.col("move") > pl.col("floor")).fill_null(value=False))
    )


def _lately(rows: pl.DataFrame, since: datetime) -> pl.DataFrame:
    """Return the bars from ``since`` on, and of every series the one before them."""
    now = pl.col("ts") >= since
    columns = ("ts", "close", "available_at")
    last = rows.filter(~now).group_by(KEYS).agg(pl.col(c).get(pl.col("ts").arg_max()) for c in columns)
    return pl.concat([last, rows.filter(now).select(last.columns)])


def _gas(rows: pl.LazyFrame) -> pl.DataFrame:
    """Gas above any block on record (wei taken for gwei), 0 or in ether where the chain always has a base fee."""
    fee, tip = pl.col("base_fee_gwei"), pl.col("priority_fee_gwei").fill_null(0.0)
    low = (fee < GAS_FLOOR_GWEI) & pl.col("chain_id").is_in(ALWAYS_BASE_FEE)
    bad = (
        rows.filter((fee > GAS_CEILING_GWEI) | (tip > GAS_CEILING_GWEI) | low)
        .sort("chain_id", "ts")
        .with_columns(before=pl.lit(None, pl.Float64))
        .collect()
    )
    none = pl.lit("base fee 0 on a chain that always has one: a header without the field?")
    under = pl.format("gas of {} gwei is below {}: is it in ether?", fee, GAS_FLOOR_GWEI)
    high = pl.format("gas of {} gwei is above {}: is it in wei?", pl.max_horizontal(fee, tip), GAS_CEILING_GWEI)
    return _as_flags(
        "gas",
        bad,
        ["chain_id"],
        "gas_implausible",
        "base_fee_gwei",
        pl.when(low & (fee == 0)).then(none).when(low).then(under).otherwise(high),
    )


def _as_flags(name: str, rows: pl.DataFrame, keys: list[str], reason: str, value: str, text: pl.Expr) -> pl.DataFrame:
    return rows.select(
        table=pl.lit(name),
        series=pl.concat_str([pl.col(k).cast(pl.String) for k in keys], separator="/"),
        ts="ts",
        available_at="available_at",
        reason=pl.lit(reason),
        value=pl.col(value),
        before="before",
        text=text,
    ).cast(pl.Schema(SCHEMA))
