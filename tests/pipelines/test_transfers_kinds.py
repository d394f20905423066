"""Across and an OFT from the settings, between two local chains: a transfer by the verbs, wrong rows by their key."""

from __future__ import annotations

import pytest

from lake.errors import ConfigError
from pipelines.settings import load
from pipelines.stages.route_checks import route_findings
from pipelines.vault_setup.transfer_bridges import quotes_of
from pipelines.vault_setup.transfer_fleet import fleet_of
from policy.localnet.across import POOL, SISTER_POOL
from policy.localnet.attestation_server import serve_quotes
from policy.localnet.bridges import CHAIN_IDS, USD
from policy.localnet.layerzero import LZ_OFT
from policy.localnet.relayer import Relayer
from tests.pipelines.test_transfers_onchain import PHRASE, project_in, run, total, written
from tests.transfers.real_bridges import AcrossCase, OftCase

CASES = {"across": (AcrossCase, 2), "oft": (OftCase, 3)}
DOLLARS = 4_000


def rows_of(kind: str, net) -> str:
    """The lines of a route of ``kind`` that leaves ``net``, in place of CCTP's messenger."""
    found = net.world.extras
    lines = {
        "across": f'contract = "{found[POOL]}"\ncontract_there = "{found[SISTER_POOL]}"\nroute = 2\n',
        "oft": f'contract = "{found[LZ_OFT]}"\nroute = 3\n',
    }
    return lines[kind]


def settings_for(folder, made, kind: str, quotes: str) -> None:
    text = written(folder, made, "https://iris-api.circle.com").replace('kind = "cctp"', f'kind = "{kind}"')
    for net in made.nets:
        old = f'messenger = "{net.world.extras["cctp_messenger"]}"\n'
        text = text.replace(old, rows_of(kind, net))
    (folder / "foredrift.toml").write_text(text + f'across = "{quotes}"\n')


@pytest.mark.chain
@pytest.mark.parametrize("kind", CASES)
def test_a_transfer_from_the_settings_is_settled_and_counted_once_at_each_look(chain_pair, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FOREDRIFT_PASSPHRASE", PHRASE)
    make, route = CASES[kind]
    case, others = make(chain_pair), Relayer(chain_pair)
    with serve_quotes(chain_pair.quotes) as quotes:
        settings_for(tmp_path, chain_pair, kind, quotes)
        found = list(route_findings(project_in(tmp_path)))
        assert [(f["level"], kind in f["check"]) for f in found] == [("ok", True)] * 2, found
        begun, before = total(run("transfers")), case.balances()
        planned = run(f"transfers plan {CHAIN_IDS[0]} {CHAIN_IDS[1]} USDC {DOLLARS} --live")
        assert planned["planned"], planned
        assert (int(planned["native_fee_wei"]) > 0) == (kind == "oft")
        states, did = [], []
        for _ in range(16):
            chain_pair.mine()
            did += others.step()
            chain_pair.level()
            view = run("transfers resume")
            assert begun - total(view) in {0, int(planned["fee"]) * 100 // USD}
            states.append(view["transfers"][0]["state"])
            if states[-1] == "settled":
                break
    assert states[-1] == "settled", (states, did)
    assert [w for w in did if "arrived on" in w], "somebody else brought it"
    left, arrived = (b - a for a, b in zip(before, case.balances(), strict=True))
    assert (-left, arrived) == (DOLLARS * USD, int(planned["least"]))
    assert case.vaults[0].port_transit(route) == 0


REFERENCE = "[[chains]]\nid = {}\n[chains.vault]\nkind = 'reference'\naddress = '0x{}'\n"
ADDRESS = "0x" + "77" * 20
WRONG = {
    "kind = 'across'": "contract: name Across' pool on chain 1",
    f"kind = 'across'\ncontract = '{ADDRESS}'": "contract_there: name Across' pool on chain 10",
    "kind = 'oft'": "contract: name the token's OFT adapter on chain 1",
    f"kind = 'oft'\ncontract = '{ADDRESS}'\ncontract_there = '{ADDRESS}'": "contract_there: a route of kind oft has no",
    f"kind = 'oft'\ncontract = '{ADDRESS}'\nmessenger = '{ADDRESS}'": "messenger: a route of kind oft has none",
    f"kind = 'cctp'\ncontract = '{ADDRESS}'": "contract: a route of kind cctp has none",
    f"kind = 'oft'\ncontract = '{ADDRESS}'\nspeed = 'fast'\nallow_unfinal = true": "speed: only cctp has",
}


def loaded(folder, row: str, *, back: bool = True):
    text = "[portfolio]\nassets = ['USDC', 'ETH']\n" + "".join(
        REFERENCE.format(i, f"{n}" * 40) for n, i in ((1, 1), (2, 10))
    )
    for near, far in ((1, 10), (10, 1))[: 2 if back else 1]:
        text += f"[[bridges]]\nfrom = {near}\nto = {far}\n{row}\n"
    (folder / "foredrift.toml").write_text(text)
    return load(folder / "foredrift.toml")


@pytest.mark.parametrize("row", WRONG)
def test_a_row_that_names_too_little_or_too_much_is_refused_by_its_key(tmp_path, row):
    with pytest.raises(ConfigError) as error:
        loaded(tmp_path, row)
    assert f"bridges.0.{WRONG[row]}" in str(error.value), str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["cctp", "across", "oft"])
def test_a_kind_goes_both_ways_or_an_arrival_would_pass_for_a_gift(tmp_path, kind):
    named = {
        "cctp": "",
        "oft": f"contract = '{ADDRESS}'",
        "across": f"contract = '{ADDRESS}'\ncontract_there = '{ADDRESS}'",
    }
    row = f"kind = '{kind}'\n{named[kind]}"
    with pytest.raises(ConfigError, match=f"no row of kind {kind} leads back from 10 to 1"):
        loaded(tmp_path, row, back=False)
    assert [b.kind for b in loaded(tmp_path, row).bridges] == [kind, kind]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://example.org", "https://example.org/api"])
def test_a_quote_service_is_across_own_but_between_local_chains(tmp_path, url):
    def fleet(a: int, b: int):
        text = f"[[chains]]\nid = {a}\n[[chains]]\nid = {b}\n" + f"[transfers]\nacross = '{url}'\n"
        (tmp_path / "foredrift.toml").write_text(text)
        return fleet_of(project_in(tmp_path))

    with pytest.raises(ConfigError, match="is not Across' quote service"):
        quotes_of(fleet(1, 10))
    if "127.0.0.1" in url:
        assert quotes_of(fleet(*CHAIN_IDS)).service.url == url
    else:
        with pytest.raises(ConfigError, match="is not Across' quote service"):
            quotes_of(fleet(*CHAIN_IDS))
