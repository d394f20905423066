"""What a block costs a keeper of 1, 10, 100 and 1,000 idle vaults on the local chain: `make fleet` (SIZES="1 10").

Ten reference vaults are deployed and read as often as a fleet of the size would be, each time under an address of its
own in the filter of logs: a block is one batch of reads, the full readings that are due in it, one look at all vaults
by arrays, and one owner's file a vault. Gas is far above every reservation price, so no cycle is run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from lake.head_ring import Head
from lake.rpc import Rpc
from pipelines.demo.keep_trial import trial_of, view_of
from policy.execution.context import EngineContext
from policy.execution.records.journal import Journal
from policy.execution.records.owner import owning
from policy.execution.submission.gas import FeeRules
from policy.execution.submission.node import JsonNode
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.keeping.chain_market import ChainMarket, Kept
from policy.keeping.desk import Desk
from policy.keeping.keeper import Keeper
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import TARGETS, reference_vault
from policy.localnet.world import Extra

GWEI = 10**9
DEAR_WEI = 10**9 * GWEI
CONTRACTS = 10


def vaults(count: int = CONTRACTS) -> list[Extra]:
    """Return the extras of ``count`` reference vaults, ``vault`` and ``vault_1`` .. ``vault_N`` of the world."""

    def named(number: int) -> Extra:
        one = reference_vault(TARGETS, deposit_usd=100_000 + number)
        if not number:
            return one
        return Extra(
            f"vault_{number}", f"{one.digest}-{number}", lambda on, w: {f"vault_{number}": one.deploy(on, w)["vault"]}
        )

    return [named(n) for n in range(count)]


@contextmanager
def fleet(net: Localnet, folder: Path, size: int):
    """Yield a keeper of ``size`` idle vaults, each with an owner's file."""
    trial = trial_of(net, folder / "first")
    rpc = Rpc(net.url, timeout=30.0)
    addresses = [net.world.extras["vault"], *(net.world.extras[f"vault_{n}"] for n in range(1, CONTRACTS))]
    adapters = [ReferenceVault(rpc, a) for a in addresses]
    far = lambda snapshot: replace(view_of(snapshot), usual_gwei=1e9)  # noqa: E731 - no order is within reach
    with ExitStack() as held:
        desks, kept = [], []
        for n in range(size):
            journal = Journal(folder / f"v{n}" / "journal")
            desk = Desk(f"v{n}", journal, _never, folder / f"v{n}" / "looks")
            desk.owner = held.enter_context(owning(journal.path))
            desks.append(desk)
            address = addresses[n] if n < CONTRACTS else f"0x{n:040x}"
            kept.append(Kept(adapters[n % CONTRACTS], address, trial.ctx.portfolio, far, trial.ctx.pools))
        market = ChainMarket(rpc, JsonNode(rpc), kept, FeeRules(), pools_every=10**6)
        yield Keeper(desks, market, width=len(TARGETS), workers=1)


@contextmanager
def _never(occasion) -> EngineContext:
    raise AssertionError(f"an idle vault was acted on: {occasion}")
    yield


def head_of(net: Localnet) -> Head:
    h = net.node.head()
    return Head(h.number, h.hash, h.parent, h.time, h.base_fee_wei, h.gas_used, h.gas_limit)


def measure(net: Localnet, folder: Path, size: int, blocks: int) -> dict[str, float]:
    """Return seconds until the first look, and milliseconds a block after it."""
    with fleet(net, folder, size) as keeper:
        keeper._epochs[:] = 10**9  # noqa: SLF001 - no scheduled decision falls due
        net.mine(base_fee_wei=DEAR_WEI)
        began = time.perf_counter()
        keeper.on_block(head_of(net))
        ready = time.perf_counter() - began
        spent, cpu = [], time.process_time()
        for _ in range(blocks):
            net.mine(base_fee_wei=DEAR_WEI)
            head = head_of(net)
            before = time.perf_counter()
            keeper.on_block(head)
            spent.append(time.perf_counter() - before)
        busy = time.process_time() - cpu
        assert keeper.tally.blind == 0, keeper.tally.reason
        assert keeper.tally.acts == 0
        assert np.isfinite(keeper.glance.distance).all()
    p50, p99 = np.percentile(spent, [50, 99]) * 1e3
    return {"vaults": size, "ready_s": ready, "p50_ms": p50, "p99_ms": p99, "share_of_12s": p50 / 12_000,
            "cpu_ms": busy / blocks * 1e3}  # fmt: skip


def table(sizes: list[int], blocks: int) -> list[dict[str, float]]:
    """Return a row a size."""
    with start(extras=vaults()) as net, tempfile.TemporaryDirectory() as name:
        return [measure(net, Path(name) / str(size), size, blocks) for size in sizes]


def main() -> None:
    """Print the table; write it with --json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 10, 100, 1_000])
    parser.add_argument("--blocks", type=int, default=66)  # every vault's own full reading falls due once
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    rows = table(given.sizes, given.blocks)
    print(
        "| vaults | ready, s | block p50, ms | p99, ms | of a 12 s block | processor, ms |\n|--:|--:|--:|--:|--:|--:|"
    )
    for r in rows:
        print(
            f"| {r['vaults']} | {r['ready_s']:.1f} | {r['p50_ms']:.1f} | {r['p99_ms']:.1f} "
            f"| {r['share_of_12s']:.2%} | {r['cpu_ms']:.1f} |"
        )
    if given.json is not None:
        given.json.write_text(json.dumps(rows))


if __name__ == "__main__":
    main()
