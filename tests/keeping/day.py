"""A day of a kept vault on the local market: `make keep-day` (ARGS="--hours 24 --kills 5 --restarts 2 --stalls 10").

The keeper is a process of its own, killed outright and started again; the node goes away and comes back without its
pool; the websocket falls silent. Each hour the scheduled run asks for the vault's owner, declines while the keeper is
fresh and decides by itself where it is not, as ``pipelines.flows.rebalance`` does. What was done is held against the
node's own state: triggers answered within two looks of recovery, executions by plan nonce, breaches beyond the outages.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import random
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

from lake.evm import head_of
from lake.heads import HeadFollower
from lake.rpc import Rpc
from pipelines.demo.keep_trial import DEPOSIT_USD, QUICK, market_of, trial_of
from pipelines.demo.localnet import MANDATE
from pipelines.demo.trial_market import TrialMarket, missed
from pipelines.scheduled.keep import KeepRun, keep, rss_mb
from policy.execution.engine import step
from policy.execution.records.owner import ownership, owning
from policy.execution.vaults.reference.adapter import ReferenceVault
from policy.localnet.accounts import dev_accounts
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.market import Localnet, start
from policy.localnet.portfolio import TARGETS, reference_vault
from policy.localnet.world import PRICES

HOUR_BLOCKS = 300
OUT_BLOCKS = 12  # of a killed keeper, and of a node that is away
ALL = ()


def child(url: str, node_url: str, ws: str, folder: Path) -> None:
    """Keep the vault until killed; a line a look: block, whether it was answered for, and memory in MB."""
    world = pickle.loads((folder / "world").read_bytes())  # noqa: S301 - written by the parent just now
    admin = Rpc(node_url, timeout=30.0)
    node = SimpleNamespace(admin=admin, head=lambda: head_of(admin))
    net = SimpleNamespace(url=url, node=node, world=world, accounts=dev_accounts(), chain_id=world.chain_id)
    trial = trial_of(net, folder)
    follower = HeadFollower(ws, [Rpc(url), Rpc(url)], clock=lambda: float(node.head().time), pace=QUICK)
    with owning(trial.ctx.journal.path) as owner, (folder / "looks.txt").open("a") as out:
        owner.refresh(0)
        trial.keeper.desks[0].owner = owner

        def shown(head, acts):
            trial.shown(head, acts)
            print(head.number, int(trial.looks[head.number]), round(rss_mb(), 1), file=out, flush=True)

        asyncio.run(keep(trial.keeper, aiter(follower), refusal=lambda: follower.refusal, shown=shown, run=KeepRun()))


class Keeping:
    """The keeper's process and what it has looked at."""

    def __init__(self, net: Localnet, ws: str, folder: Path) -> None:
        self.folder = folder
        self.command = [sys.executable, "-m", "tests.keeping.day", "--child", net.url, net.node_url, ws, str(folder)]
        self.process: subprocess.Popen[bytes] | None = None
        self.starts: list[float] = []
        self._rows: list[list[str]] = []
        self._read = 0

    def start(self) -> None:
        before, began = len(self.lines()), time.monotonic()
        self.process = subprocess.Popen(self.command)
        while len(self.lines()) == before:
            assert self.process.poll() is None, "the keeper ended by itself"
            assert time.monotonic() - began < 180
            time.sleep(0.05)
        self.starts.append(time.monotonic() - began)

    def kill(self) -> None:
        assert self.process is not None
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def lines(self) -> list[list[str]]:
        path = self.folder / "looks.txt"
        if path.exists():
            with path.open() as file:
                file.seek(self._read)
                text = file.read()
            whole = text[: text.rfind("\n") + 1]
            self._read += len(whole)
            self._rows += [row.split() for row in whole.splitlines() if len(row.split()) == 3]
        return self._rows

    def seen(self) -> int:
        rows = self.lines()[-1:]
        return int(rows[0][0]) if rows else 0


def scheduled(net: Localnet, folder: Path, counts: dict[str, int]) -> None:
    """Do what the scheduled flow does: decline while a keeper is fresh, else decide in its stead."""
    found = ownership(folder / "journal", 12.0)
    if found.fresh:
        counts["declined"] += 1
        return
    trial = trial_of(net, folder)
    report = step(replace(trial.ctx, per_nonce=False, wait=lambda head: net.mine()))
    counts["stood_in"] += 1
    counts["stood_in_traded"] += report.outcome == "traded"


def day(hours: float, kills: int, restarts: int, stalls: int, seed: int) -> dict[str, object]:
    """Return the figures of ``hours`` simulated hours."""
    extra = reference_vault(TARGETS, deposit_usd=DEPOSIT_USD, mandate=MANDATE)
    with start(extras=[extra], gas_gwei=12.0) as net, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "world").write_bytes(pickle.dumps(net.world))
        keeping, blocks, rng = Keeping(net, net.listen(), folder), int(hours * HOUR_BLOCKS), random.Random(seed)
        trial = trial_of(net, folder)
        truth = market_of(replace(trial.ctx, pools=trial.ctx.pools), Rpc(net.node_url))
        market = TrialMarket(net, {a: float(p) for a, p in PRICES.items()}, seed, keeping.seen, truth)
        keeping.start()
        places = rng.sample(range(20, blocks - OUT_BLOCKS - 5), kills + restarts + stalls)
        plan = dict(zip(places, ["kill"] * kills + ["restart"] * restarts + ["stall"] * stalls, strict=True))
        counts = dict.fromkeys(("declined", "stood_in", "stood_in_traded"), 0)
        back, up = -1, -1
        for b in range(blocks):
            event = plan.get(b)
            if event == "kill" and back < 0:
                keeping.kill()
                back = b + OUT_BLOCKS
            elif event == "restart":
                net.node.admin.call("anvil_dropAllTransactions")
                for kind in (FaultKind.DROP, FaultKind.HANG_CONNECT, FaultKind.HTTP_502):
                    net.faults.add(Fault(kind, ALL, times=None, hold_s=1.0))
                up = b + OUT_BLOCKS
            elif event == "stall":
                net.faults.add(Fault(FaultKind.STALL, ALL, times=1, blocks=20))
            if b == up:
                net.faults.clear()
            if 0 <= back <= b and up < b:  # a keeper that is started while the node is away waits for it
                keeping.start()
                back = -1
            due = b % HOUR_BLOCKS == HOUR_BLOCKS // 2 or (back > 0 and b == back - 2)
            if due and up < b:
                scheduled(net, folder, counts)
            market.one(rng, b)
        if back > 0:
            keeping.start()
        net.faults.clear()
        settle(net, trial)
        keeping.kill()
        return figures(keeping, market, trial, counts, blocks)


def settle(net: Localnet, trial) -> None:
    for _ in range(40):
        net.mine()
        time.sleep(0.15)
        if trial.ctx.journal.in_flight() is None:
            return


def figures(keeping: Keeping, market: TrialMarket, trial, counts: dict[str, int], blocks: int) -> dict[str, object]:
    rows = keeping.lines()
    looks = {int(b): a == "1" for b, a, _ in rows}
    memory = [float(m) for *_, m in rows]
    flights = trial.ctx.journal.flights()
    landed = [f.plan.nonce for f in flights if f.state == "landed"]
    node = Rpc(market.net.node_url)
    nonce = ReferenceVault(node, trial.ctx.vault_address).snapshot().plan_nonce
    late = missed(market.due, looks, 1.0)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"), "blocks": blocks, "looks": len(looks),
        "starts": len(keeping.starts), "ready_s": [round(s, 1) for s in keeping.starts], **counts,
        "executions": len(landed), "double_executions": len(landed) - len(set(landed)) + abs(nonce - len(landed)),
        "open_plans": sum(f.open for f in flights), "missed_triggers": len(late), "missed_at": late[:10],
        "load": round(os.getloadavg()[0], 1), "rss_mb": [memory[0], memory[len(memory) // 2], memory[-1]],
    }  # fmt: skip


def main() -> None:
    """Print the figures; status 1 unless nothing was missed, doubled or left open."""
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], sys.argv[3], sys.argv[4], Path(sys.argv[5]))
        return
    parser = argparse.ArgumentParser()
    parser.add_argument("--hours", type=float, default=24.0)
    for name, count in (("kills", 5), ("restarts", 2), ("stalls", 10), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=count)
    given = parser.parse_args()
    found = day(given.hours, given.kills, given.restarts, given.stalls, given.seed)
    print(json.dumps(found, indent=1))
    sys.exit(int(bool(found["double_executions"] or found["missed_triggers"] or found["open_plans"])))


if __name__ == "__main__":
    main()
