"""Reading a node: every field as it is or an error that names it, calls that select what they say, exact fees."""

from __future__ import annotations

import pytest
from eth_abi.abi import decode
from hypothesis import given
from hypothesis import strategies as st

from lake.answers import MAX_TOPICS, WORD, Fields, data, fields, log_of, quantity, rows, sensible, share
from lake.errors import ConfigError, RpcError
from lake.evm import LAST_TIME_S, at_block, calldata, next_base_fee, read_head, selector, split_types
from lake.universe import CHAINS, chain

HASH, ADDRESS = "0x" + "ab" * 32, "0x" + "cd" * 20
json_values = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.lists(st.none(), max_size=2)
)


@given(number=st.integers(0, WORD))
def test_a_quantity_is_read_as_it_was_written(number):
    assert quantity(hex(number)) == number
    if number:
        with pytest.raises(RpcError, match=f"<= {number - 1}"):
            quantity(hex(number), number - 1)


@given(value=json_values)
def test_what_is_no_quantity_is_an_error_and_never_a_zero(value):
    if isinstance(value, str) and value.startswith("0x") and len(value) > 2:
        return
    with pytest.raises(RpcError, match="where a hex quantity is due"):
        quantity(value)


@pytest.mark.parametrize("text", ["0x", "0xg", "1f", "0x" + "f" * 65, "0X1", " 0x1", "0x1 ", "-0x1", "0x-1"])
def test_almost_a_quantity_is_none(text):
    with pytest.raises(RpcError):
        quantity(text)


@given(raw=st.binary(max_size=80))
def test_data_come_back_as_bytes_and_half_bytes_are_an_error(raw):
    assert data("0x" + raw.hex()) == raw
    with pytest.raises(RpcError):
        data("0x" + raw.hex() + "0")


def test_an_error_names_the_method_and_the_field():
    row = fields({"a": "0x1", "b": None, "list": [1]}, "eth_getThing")
    assert (row.quantity("a"), row.has("a"), row.has("b"), row.has("c")) == (1, True, False, False)
    for read in (lambda: row.quantity("b"), lambda: row.data("c"), lambda: row.hash("a"), lambda: row.rows("list", 2)):
        with pytest.raises(RpcError, match="eth_getThing"):
            read()
    with pytest.raises(RpcError, match="eth_getThing: c"):
        row.address("c")
    with pytest.raises(RpcError, match="where an object is due"):
        fields([], "eth_getThing")
    with pytest.raises(RpcError, match="where a list is due"):
        rows({}, "x")
    assert not Fields("m", {}).has("x")


@given(value=json_values)
def test_a_long_answer_is_cut_in_its_error(value):
    with pytest.raises(RpcError) as caught:
        fields(["x" * 500, value], "m")
    assert len(str(caught.value)) < 120


@given(value=json_values)
def test_a_share_is_a_number_from_zero_up(value):
    good = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < float("inf")
    if good:
        assert share(value, "m") == float(value)
    else:
        with pytest.raises(RpcError, match="number >= 0"):
            share(value, "m")


@pytest.mark.parametrize("count", range(MAX_TOPICS + 2))
def test_a_log_has_four_topics_at_most_and_lower_case_words(count):
    raw = {"address": ADDRESS.upper().replace("0X", "0x"), "topics": [HASH] * count, "data": "0x00"}
    if count > MAX_TOPICS:
        with pytest.raises(RpcError, match="5 topics"):
            log_of(raw, "eth_getLogs")
        return
    found = log_of(raw, "eth_getLogs")
    assert (found["address"], found["topics"], found["data"]) == (ADDRESS, [HASH] * count, "0x00")


@pytest.mark.parametrize("fault", [ZeroDivisionError(), KeyError("x"), ValueError("y"), IndexError(), TypeError()])
def test_arithmetic_that_breaks_on_absurd_figures_is_the_node_s_fault(fault):
    with pytest.raises(RpcError, match="reserves: a node's figures make no sense"), sensible("reserves"):
        raise fault
    with pytest.raises(RuntimeError), sensible("reserves"):
        raise RuntimeError


def header(**changed: object) -> dict[str, object]:
    known = {
        "number": "0x10", "hash": HASH, "parentHash": HASH, "timestamp": "0x5", "baseFeePerGas": "0x7",
        "gasUsed": "0x1", "gasLimit": "0x64",
    }  # fmt: skip
    return {k: v for k, v in (known | changed).items() if v is not ...}


def test_a_header_is_read_field_by_field():
    head = read_head(header(), 16)
    assert (head.number, head.hash, head.time, head.base_fee_wei, head.gas_used, head.gas_limit) == (
        16,
        HASH,
        5,
        7,
        1,
        100,
    )
    assert read_head(header(baseFeePerGas=...), 16, fees=False).base_fee_wei == 0


@pytest.mark.parametrize("name", ["number", "hash", "parentHash", "timestamp", "baseFeePerGas", "gasUsed", "gasLimit"])
@pytest.mark.parametrize("value", [..., None, "0x", 5, "0x" + "f" * 64, []])
def test_a_header_with_any_field_out_of_shape_is_refused(name, value):
    if name in {"hash", "parentHash"} and value == "0x" + "f" * 64:
        return
    with pytest.raises(RpcError):
        read_head(header(**{name: value}), 16)


@pytest.mark.parametrize(
    ("changed", "asked", "words"),
    [
        ({"number": "0x11"}, 16, "answered with block 17"),
        ({}, "0x" + "ef" * 32, "answered with block 16"),
        ({"gasUsed": "0x65"}, 16, "which no block can"),
        ({"timestamp": hex(LAST_TIME_S + 1)}, 16, "timestamp"),
    ],
)
def test_a_header_that_cannot_be_the_one_asked_for_is_refused(changed, asked, words):
    with pytest.raises(RpcError, match=words):
        read_head(header(**changed), asked)


@given(types=st.lists(st.sampled_from(["uint256", "(address,uint24)[]", "bytes", "(uint256,(bool,int8))"]), max_size=5))
def test_a_signature_is_split_at_its_own_commas(types):
    assert split_types(",".join(types)) == types


@given(amount=st.integers(0, WORD), raw=st.binary(max_size=70))
def test_call_data_begin_with_the_selector_and_decode_to_what_was_given(amount, raw):
    made = calldata("f(uint256,(address,bytes))", amount, (ADDRESS, raw))
    assert made[:4] == selector("f(uint256,(address,bytes))")
    assert decode(["uint256", "(address,bytes)"], made[4:]) == (amount, (ADDRESS, raw))


def test_known_selectors():
    assert selector("transfer(address,uint256)").hex() == "a9059cbb"
    assert selector("latestRoundData()").hex() == "feaf968c"


@pytest.mark.parametrize(
    ("block", "asked"), [(16, "0x10"), ("latest", "latest"), (HASH, {"blockHash": HASH, "requireCanonical": True})]
)
def test_a_block_is_asked_by_number_tag_or_hash_of_the_canonical_chain(block, asked):
    assert at_block(block) == asked


@pytest.mark.parametrize("chain_id", sorted(CHAINS))
@given(fee=st.integers(10**7, 10**13), limit=st.integers(10**6, 10**9), share_used=st.floats(0, 1))
def test_a_fee_moves_towards_the_target_and_never_beyond_its_bound(chain_id, fee, limit, share_used):
    rules, used = chain(chain_id), int(limit * share_used)
    after = next_base_fee(fee, used, limit, rules)
    target = limit // rules.elasticity
    if used == target:
        assert after == max(fee, rules.min_base_fee_wei)
    elif used > target:
        assert fee < after <= fee + max(fee * (rules.elasticity - 1) // rules.denominator + fee // rules.denominator, 1)
    else:
        assert fee - fee // rules.denominator <= after <= max(fee, rules.min_base_fee_wei)


def test_a_chain_that_is_not_known_is_named_with_those_that_are():
    with pytest.raises(ConfigError, match=r"chain id 5 is not known; known are 1 \(ethereum\)"):
        chain(5)
    settled_on = {CHAINS[c].l1_chain_id for c in CHAINS} - {None}
    assert settled_on == {1, 11155111}
    assert all(CHAINS[c].l1_chain_id is None for c in settled_on)
