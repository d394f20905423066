"""The data dictionary: every table with its key, columns, units and row rules.

``available_at`` (UTC) is when a row could have been known; it is in every table and no reader sees a row
before it. Optional columns may be null. The schema library is dataframely; see docs/adr.
"""

from __future__ import annotations

from dataclasses import dataclass

import dataframely as dy
import polars as pl

from lake.chain_tables import ChainPlaces, Transfers
from lake.errors import ConfigError
from lake.option_tables import Options, Perps, Positions, Rates, VolIndex
from lake.table_columns import finite, moment, name_key

UTC_US = pl.Datetime("us", "UTC")


class Prices(dy.Schema):
    """Bars. ``ts`` is the bar's open; ``available_at = ts + step``."""

    source = name_key()
    asset = name_key()
    step = dy.Int64(primary_key=True, min=1)  # bar length, seconds
    ts = moment(key=True)
    open = finite(above=0)  # quote per unit
    high = finite(above=0)
    low = finite(above=0)
    close = finite(above=0, required=True)
    volume = finite(at_least=0)  # base units
    available_at = moment()

    @dy.rule()
    def high_below_low(cls) -> pl.Expr:  # noqa: N805
        """High is at least low."""
        return pl.col("high") >= pl.col("low")

    @dy.rule()
    def close_outside_range(cls) -> pl.Expr:  # noqa: N805
        """Close lies within low and high, to float rounding."""
        return pl.col("close").is_between(pl.col("low") * (1 - 1e-9), pl.col("high") * (1 + 1e-9))


class Gas(dy.Schema):
    """Gas price over an interval that starts at ``ts`` (an hour's mean, or one block)."""

    chain_id = dy.Int64(primary_key=True, min=1)
    ts = moment(key=True)
    base_fee_gwei = finite(at_least=0, required=True)
    priority_fee_gwei = finite(at_least=0)
    gas_used_ratio = finite(at_least=0)  # of the block gas limit, 0..1
    block_number = dy.Int64(nullable=True, min=0)
    available_at = moment()


class Heads(dy.Schema):
    """Headers of canonical blocks, one row each: the per-block history of gas that nobody publishes.

    The tips are the 10th and 50th percentile of what the block's transactions paid, null where it had none or no node
    said. ``available_at`` is the block's time where it was followed as it came.
    """

    chain_id = dy.Int64(primary_key=True, min=1)
    number = dy.Int64(primary_key=True, min=0)
    ts = moment()
    base_fee_wei = dy.Int64(nullable=False, min=0)
    gas_used = dy.Int64(nullable=False, min=0)
    gas_limit = dy.Int64(nullable=False, min=2)
    tip_p10_wei = dy.Int64(nullable=True, min=0)
    tip_p50_wei = dy.Int64(nullable=True, min=0)
    available_at = moment()

    @dy.rule()
    def more_used_than_allowed(cls) -> pl.Expr:  # noqa: N805
        """A block uses its gas limit at most."""
        return pl.col("gas_used") <= pl.col("gas_limit")


class PoolState(dy.Schema):
    """State of one liquidity pool."""

    chain_id = dy.Int64(primary_key=True, min=1)
    pool = name_key()
    ts = moment(key=True)
    liquidity_raw = dy.Binary(nullable=True)  # 32-byte big-endian unsigned word: in-range L (v3) or sqrt(x*y) (v2)
    sqrt_price_x96 = dy.Binary(nullable=True)  # 32-byte big-endian unsigned word
    price = finite(above=0)  # quote (USD-like token) per unit of the other token
    fee_pips = dy.Int64(nullable=True, min=0, max=1_000_000)  # millionths
    depth_1pct_usd = finite(at_least=0)  # one-sided USD that moves the price by 1 %
    volume_usd = finite(at_least=0)
    available_at = moment()


class Oracle(dy.Schema):
    """Rounds of price feeds. ``answer`` is a raw signed integer as decimal string, in feed decimals."""

    chain_id = dy.Int64(primary_key=True, min=1)
    feed = name_key()
    round = dy.String(primary_key=True, min_length=1)  # uint80 as decimal string
    answer = dy.String(nullable=False)
    updated_at = moment()
    available_at = moment()


class Signals(dy.Schema):
    """Any named series: fear_greed; funding_8h (a charge) or funding_8h_mean (a day's mean of them); sentiment."""

    name = name_key()
    key = name_key()
    ts = moment(key=True)
    value = finite(required=True)
    available_at = moment()


class Features(dy.Schema):
    """Model inputs; every further column is one Float64 feature."""

    key = name_key()  # "<target>/<portfolio, chain, asset or pool>"
    ts = moment(key=True)  # decision time
    available_at = moment()


class Forecasts(dy.Schema):
    """Forecasts as issued, never rewritten. Units and keys by target: see ``docs/forecasts.md``."""

    target = name_key()
    key = name_key()
    issued_at = moment(key=True)
    horizon_s = dy.Int64(primary_key=True, min=1)
    q05 = dy.Float64(nullable=True)
    q25 = dy.Float64(nullable=True)
    q50 = dy.Float64(nullable=True)
    q75 = dy.Float64(nullable=True)
    q95 = dy.Float64(nullable=True)
    mean = dy.Float64(nullable=True)
    model_version = dy.String(nullable=False)
    abstain = dy.Bool(nullable=False)
    reason = dy.String(nullable=True)  # why it abstains
    available_at = moment()

    @dy.rule()
    def quantiles_cross(cls) -> pl.Expr:  # noqa: N805
        """Quantiles do not decrease."""
        q = [pl.col(c) for c in ("q05", "q25", "q50", "q75", "q95")]
        return pl.all_horizontal([a <= b for a, b in zip(q[:-1], q[1:], strict=True)])

    @dy.rule()
    def speaks_or_abstains(cls) -> pl.Expr:  # noqa: N805
        """A row that does not abstain carries a mean; one that abstains says why."""
        return (~pl.col("abstain") & pl.col("mean").is_not_null()) | (
            pl.col("abstain") & pl.col("reason").is_not_null()
        )


class Paths(dy.Schema):
    """Joint scenario paths of a forecast target, one row a path, hourly values after ``issued_at``."""

    target = name_key()
    key = name_key()
    issued_at = moment(key=True)
    path = dy.Int64(primary_key=True, min=0)
    values = dy.List(dy.Float32(), nullable=False)  # value at issued_at + 1 h, + 2 h, ...
    model_version = dy.String(nullable=False)
    available_at = moment()


class Decisions(dy.Schema):
    """One row a decision; nested records as JSON."""

    decision_id = name_key()
    ts = moment()
    vault = dy.String(nullable=False)
    policy = dy.String(nullable=False)
    action = dy.String(nullable=False)  # trade | wait | split | forced | refuse
    inputs_digest = dy.String(nullable=False)  # sha256 over state and forecasts
    verdicts = dy.String(nullable=False)  # JSON list
    plan = dy.String(nullable=True)  # JSON, null without a trade
    expected = dy.String(nullable=False)  # JSON: benefit, cost, value of waiting, USD
    available_at = moment()


class Executions(dy.Schema):
    """One row an attempt to execute a decision."""

    decision_id = name_key()
    attempt = dy.Int64(primary_key=True, min=0)
    ts = moment()
    tx_hash = dy.String(nullable=True)
    status = dy.String(nullable=False)  # landed | reverted | replaced | void | unknown
    gas_used = dy.Int64(nullable=True, min=0)
    fills = dy.String(nullable=True)  # JSON list: token, raw amount as string
    realised = dy.String(nullable=True)  # JSON: gas, fee, impact in USD
    expected = dy.String(nullable=True)
    available_at = moment()


class Imports(dy.Schema):
    """What happened to imported files: one row an event, never changed; the last one tells the state."""

    import_id = name_key()  # of file content and arguments: the same import again has the same id
    ts = moment(key=True)
    event = name_key()  # started | done | undo started | undone
    table = dy.String(nullable=False)
    file = dy.String(nullable=False)
    sha256 = dy.String(nullable=False)  # of the file
    rows = dy.Int64(nullable=False, min=0)  # in the file; of undone: rows put back
    added = dy.Int64(nullable=False, min=0)
    updated = dy.Int64(nullable=False, min=0)
    rejected = dy.Int64(nullable=False, min=0)
    first = dy.Datetime(nullable=True, time_unit="us", time_zone="UTC")  # time of the first loaded row
    last = dy.Datetime(nullable=True, time_unit="us", time_zone="UTC")
    note = dy.String(nullable=True)  # what was derived or left out
    available_at = moment()


class Undo(dy.Schema):
    """What a batch of an import was about to change, kept before it did (Arrow IPC); see ``lake.imports``."""

    import_id = name_key()
    seq = dy.Int64(primary_key=True, min=0)  # nanoseconds of the clock, ascending
    table = dy.String(nullable=False)
    after = dy.Binary(nullable=False)  # the rows as the import left them
    before = dy.Binary(nullable=False)  # the rows they replaced
    available_at = moment()


class Accepted(dy.Schema):
    """Implausible rows that somebody confirmed; see ``lake.plausibility``."""

    table = name_key()
    series = name_key()  # key columns without time, joined by /
    start = moment(key=True)
    end = moment(key=True)  # included
    note = dy.String(nullable=False)
    available_at = moment()


class Lessons(dy.Schema):
    """What a policy learnt about a kind of portfolio from the market up to ``ts`` (``policy.strategies.lessons``)."""

    kind = name_key()  # sha256 of ``about``
    market = name_key()  # sha256 of what it was learnt from
    code = name_key()  # sha256 of the code that learnt it
    ts = moment()  # the newest moment it rests on
    about = dy.String(nullable=False)  # JSON: mandate, NAV, gamma or tolerance, gas schedule, fee
    weights = dy.String(nullable=False)  # JSON list: how far each member is followed, 0..1
    available_at = moment()


@dataclass(frozen=True, slots=True)
class Table:
    """How one table is stored. ``time`` orders and partitions it; ``partition`` adds a month column on disk.

    A row of a ``snapshot`` table is known at its time, not an interval later.
    """

    name: str
    schema: type[dy.Schema]
    time: str
    partition: bool = False
    snapshot: bool = False
    append_only: bool = False  # a row, once written, is never changed by a later write
    open_columns: bool = False  # further Float64 columns are allowed

    @property
    def key(self) -> list[str]:
        """Names of the key columns, in order."""
        return list(self.schema.primary_key())

    @property
    def columns(self) -> dict[str, pl.DataType]:
        """Column names and polars types, in order."""
        return {name: column.dtype for name, column in self.schema.columns().items()}

    @property
    def required(self) -> list[str]:
        """Columns a file must bring: everything not null but ``available_at``, which can be derived."""
        return [n for n, c in self.schema.columns().items() if not c.nullable and n != "available_at"]


TABLES: dict[str, Table] = {
    t.name: t
    for t in (
        Table("prices", Prices, "ts", partition=True),
        Table("gas", Gas, "ts", partition=True),
        Table("heads", Heads, "ts", partition=True, snapshot=True),
        Table("pool_state", PoolState, "ts", partition=True),
        Table("oracle", Oracle, "updated_at"),
        Table("signals", Signals, "ts"),
        Table("options", Options, "ts", partition=True, snapshot=True),
        Table("volindex", VolIndex, "ts"),
        Table("perps", Perps, "ts", snapshot=True),
        Table("rates", Rates, "ts", snapshot=True),
        Table("positions", Positions, "ts", snapshot=True),
        Table("features", Features, "ts", open_columns=True),
        Table("forecasts", Forecasts, "issued_at", append_only=True),
        Table("paths", Paths, "issued_at", append_only=True),
        Table("decisions", Decisions, "ts"),  # one taken again in its hour replaces the row; the audit keeps every one
        Table("executions", Executions, "ts"),  # a deep reorganisation sets a row right; the audit keeps every status
        Table("transfers", Transfers, "ts", append_only=True),  # as their journal
        Table("places", ChainPlaces, "ts"),  # a look taken again in its hour replaces the rows
        Table("imports", Imports, "ts", append_only=True),
        Table("undo", Undo, "available_at", append_only=True),
        Table("accepted", Accepted, "start"),
        Table("lessons", Lessons, "ts", append_only=True),
    )
}


def table(name: str) -> Table:
    """Return the table called ``name``; raises ConfigError with the known names otherwise."""
    try:
        return TABLES[name]
    except KeyError:
        raise ConfigError(f"there is no table {name!r}; the tables are {', '.join(TABLES)}") from None
