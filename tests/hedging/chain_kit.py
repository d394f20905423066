"""A hedge account with its book on the local chain, contexts on it, and what everything is worth at a block."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from lake.evm import calldata
from lake.rpc import Rpc
from pipelines.vault_setup.hedge_rule import HedgeTermsOf, hedge_rule
from policy.execution.context import Limits
from policy.execution.hedge_engine import HedgeContext
from policy.execution.records.audit import Audit
from policy.execution.records.journal import Journal
from policy.execution.routing.pool_reader import describe_pools, read_pools
from policy.execution.submission.channels import PublicChannel
from policy.execution.submission.node import JsonNode
from policy.execution.submission.signer import KeystoreSigner, create_keystore
from policy.execution.vaults.hedge.adapter import HedgeAccount
from policy.hedging.decision import HedgeMandate
from policy.localnet.hedging import LocalBook, hedged_book, refresh_vols
from policy.localnet.market import Localnet, start
from tests.chain_fixtures import CLOCK

DAY_S = 86_400
BOOK = LocalBook(expiry=int(CLOCK.timestamp()) + 30 * DAY_S)
PRICE = 1_500.0


@contextmanager
def market(book: LocalBook = BOOK) -> Iterator[Localnet]:
    """A local market with the book, its delta source fresh."""
    with start(extras=[hedged_book(book)], at=CLOCK) as net:
        renew(net)
        yield net


def renew(net: Localnet, price: float | None = None, vol: float = 0.7) -> None:
    """Post volatilities anew, where the source has lines; prices too where one is given."""
    if price is not None:
        net.advance_prices({"ETH": price})
    refresh_vols(net, vol)


def act(net: Localnet, role: str, to: str, signature: str, *args: object) -> None:
    """Send one transaction and mine it; it must succeed."""
    sent = net.send(role, to, calldata(signature, *args))
    net.mine()
    receipt = net.receipt(sent)
    assert receipt is not None
    assert receipt["status"] == "0x1", (signature, net.deployer._reason({"from": net.accounts[role].address, "to": to,
        "data": "0x" + calldata(signature, *args).hex()}))  # fmt: skip


def hedge_context(folder: Path, net: Localnet, terms: HedgeTermsOf | None = None, rpc: Rpc | None = None, **more):
    """A live context on the account; ``wait`` mines one block, and an epoch is a block."""
    rpc = rpc or Rpc(net.url, timeout=60.0, tries=1)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "keeper.json"
    if not path.exists():
        create_keystore(path, "local", net.accounts["keeper"].key, iterations=2)
    account = HedgeAccount(rpc, net.world.extras["hedge_account"])
    refs = [p for p in net.world.pools.values() if {p.asset, p.quote} == {"ETH", "USDC"} and p.venue == "uniswap_v3"]
    infos = describe_pools(net.node.admin, [(p.address, p.venue, p.router) for p in refs])
    given = terms or HedgeTermsOf(HedgeMandate(gamma=10.0), 12.0)
    fields = {
        "vault": account,
        "vault_address": account.address,
        "chain_id": net.chain_id,
        "node": JsonNode(rpc),
        "rule": hedge_rule(given),
        "name": given.mandate.rule,
        "pools": lambda s: read_pools(rpc, infos, s.head.hash),
        "native_usd": lambda s: s.price_usd,
        "sender": net.accounts["keeper"].address,
        "journal": Journal(folder / "journal.jsonl"),
        "audit": Audit(folder / "audit.jsonl"),
        "channels": {"public": PublicChannel(rpc)},
        "wait": lambda head: net.mine(),
        "clock": lambda: datetime.fromtimestamp(net.node.head().time, UTC),
        "signer": KeystoreSigner(path, lambda: "local"),
        "live": True,
        "limits": replace(Limits(), epoch_s=12),
    }
    return HedgeContext(**{**fields, **more})
