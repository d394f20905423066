"""A project on the local chain as ``foredrift init --network local`` writes it, with three keys that open quickly."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import pytest

from lake.rpc import Rpc
from pipelines.deployments import deployment
from pipelines.settings import Settings, load
from pipelines.stages.start import KEYS, LOCAL_NODE, settings_for
from pipelines.stages.vault_deploy import deploy
from policy.execution.records.hashlog import HashLog
from policy.execution.submission.channels import PublicChannel
from policy.execution.submission.signer import create_keystore
from policy.localnet.zodiac import singleton_factory

PHRASE = "correct horse"
DEPOSIT = 100_000
GAS_MONEY = 10**19


class Killed(BaseException):
    """The process ends here: nothing catches it, nothing after it runs."""


def project(net, folder: Path, assets=("WETH", "WBTC", "USDC")) -> Path:
    """Write settings and keys of a project into ``folder``, fund its keys on ``net``; return the settings file."""
    file = folder / "foredrift.toml"
    file.write_text(settings_for("local", assets).replace(LOCAL_NODE, net.url))
    singleton_factory(net.deployer)
    for name in KEYS:
        address = create_keystore(folder / name, PHRASE, iterations=2)
        net.anvil.rpc.call("anvil_setBalance", [address, hex(GAS_MONEY)])
        if name == "owner.json":
            cash = net.world.token("USDC")
            net.deployer.call("deployer", cash.address, "mint(address,uint256)", address, 10**6 * 10**cash.decimals)
    return file


def opened(file: Path) -> tuple[Settings, object]:
    """Return settings and the deployment of the file as it is now."""
    settings = load(file)
    return settings, deployment(settings)


@contextmanager
def with_vault(net, folder: Path) -> Iterator[Path]:
    """The settings file of a project with a vault of two tokens, deployed, its phrase known; all undone in the end."""
    saved = net.snapshot()
    with pytest.MonkeyPatch.context() as patch:
        if not os.environ.get("FOREDRIFT_PASSPHRASE_FILE"):
            patch.setenv("FOREDRIFT_PASSPHRASE", PHRASE)
        file = project(net, folder, ("WETH", "USDC"))
        settings, one = opened(file)
        deploy(one, settings.deploy, file, live=True, deposit=Decimal(1_000))
        yield file
    net.revert(saved)


@contextmanager
def killed_at(patch: pytest.MonkeyPatch, at: int) -> Iterator[list[str]]:
    """Let the process die at the ``at``-th crossing (from 1): before or after a record is written or bytes are sent.

    Yields the list of crossings, which grows.
    """
    seen: list[str] = []
    append, send = HashLog.append, PublicChannel.send

    def cross(name: str) -> None:
        seen.append(name)
        if len(seen) == at:
            raise Killed(name)

    def appending(self, body, **how):
        cross(f"before {body['event']}")
        line = append(self, body, **how)
        cross(f"after {body['event']}")
        return line

    def sending(self, *given):
        cross("before sending")
        reply = send(self, *given)
        cross("after sending")
        return reply

    with patch.context() as inner:
        inner.setattr(HashLog, "append", appending)
        inner.setattr(PublicChannel, "send", sending)
        yield seen


def nonce(rpc: Rpc, address: str) -> int:
    return int(str(rpc.call("eth_getTransactionCount", [address, "latest"])), 16)
