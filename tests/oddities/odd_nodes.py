"""Nodes that fail, and answers out of shape: a few of each class (``make nodefuzz`` tries thousands)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lake.rpc import Rpc
from policy.execution.context import EngineContext
from policy.localnet.faults import Fault, FaultKind
from policy.localnet.market import Localnet
from tests.oddities.odd import BY_VAULT, LATER, REFUSED, Odd, Set


def node(kind: FaultKind, method: str = "", **more: int) -> Set:
    """Let the node fail a method, or all of them, until the fault is taken away."""

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        net.faults.add(Fault(kind, (method,) if method else (), times=None, **more))
        return ctx

    return act


def answers(method: str, change: Callable[[object], object], skip: int = 0) -> Set:
    """Let the node change its answers to ``method`` from number ``skip`` on."""

    def lie(method: str, params: Sequence[object], result: object) -> object:
        return change(result)

    def act(net: Localnet, ctx: EngineContext) -> EngineContext:
        net.faults.add(Fault(FaultKind.LYING, (method,), times=None, skip=skip, change=lie))
        return ctx

    return act


def without(name: str) -> Callable[[object], object]:
    """Leave a field out of an answer."""
    return lambda answer: {k: v for k, v in answer.items() if k != name} if isinstance(answer, dict) else answer


def given(name: str, value: object) -> Callable[[object], object]:
    """Give a field of an answer another value."""
    return lambda answer: {**answer, name: value} if isinstance(answer, dict) else answer


def short(name: str) -> Callable[[object], object]:
    """Cut the last nine entries off a list of an answer."""
    return lambda answer: {**answer, name: answer[name][:-9]} if isinstance(answer, dict) else answer


def cut(answer: object) -> object:
    """Return the first half of a string."""
    return answer[: len(answer) // 2] if isinstance(answer, str) else answer


def without_simulation(net: Localnet, ctx: EngineContext) -> EngineContext:
    """Take eth_simulateV1 from the node: plans are simulated by eth_call, and tokens stay unproven."""
    net.faults.add(Fault(FaultKind.ERROR, ("eth_simulateV1",), times=None, code=-32_601, message="method not found"))
    return ctx


def of_another_chain(net: Localnet, ctx: EngineContext) -> EngineContext:
    """Bind to the configured chain, as every run does, where the node serves another."""
    net.faults.add(Fault(FaultKind.WRONG_CHAIN, times=None))
    Rpc(net.url, tries=1).expect_chain(net.chain_id)
    return ctx


BLOCK, FEES, NONCE, RECEIPT = (
    "eth_getBlockByNumber",
    "eth_feeHistory",
    "eth_getTransactionCount",
    "eth_getTransactionReceipt",
)
SAME: tuple[tuple[str, str, Set, str], ...] = (
    ("fails every request", REFUSED, node(FaultKind.HTTP_502), "node"),
    ("answers 429 to every request", REFUSED, node(FaultKind.HTTP_429), "429"),
    ("answers with a web page", REFUSED, node(FaultKind.PAGE), "JSON"),
    ("cuts every answer short", REFUSED, node(FaultKind.TRUNCATED), "JSON"),
    ("hangs up", REFUSED, node(FaultKind.TIMEOUT, hold_s=0), "node"),
    ("header without base fee", REFUSED, answers(BLOCK, without("baseFeePerGas")), "baseFeePerGas"),
    ("header of null", REFUSED, answers(BLOCK, lambda _: None), "no block"),
    ("header with a number as text", REFUSED, answers(BLOCK, given("timestamp", "now")), "timestamp"),
    ("fee history with rows missing", REFUSED, answers(FEES, short("baseFeePerGas")), FEES),
    ("fee history with null for fees", REFUSED, answers(FEES, given("baseFeePerGas", None)), "baseFeePerGas"),
    ("results of calls cut short", REFUSED, answers("eth_call", cut), "which is not"),
    ("results of calls empty", REFUSED, answers("eth_call", lambda _: "0x"), "0x"),
    ("account nonce is a list", REFUSED, answers(NONCE, lambda _: []), "hex quantity"),
    ("balance beyond 256 bits", REFUSED, answers("eth_getBalance", lambda _: "0x" + "f" * 300), "hex quantity"),
    ("simulation answers null", REFUSED, answers("eth_simulateV1", lambda _: None), "eth_simulateV1"),
    ("receipt without status", LATER, answers(RECEIPT, without("status")), "status"),
    ("receipt of another type", LATER, answers(RECEIPT, lambda answer: answer and [answer]), "receipt of"),
    ("denies the receipt of a landed plan", LATER, answers(RECEIPT, lambda _: None), ""),
)
NODES: tuple[Odd, ...] = (
    *(Odd("node", name, expected, act, word, heals=True) for name, expected, act, word in SAME),
    Odd("node", "has no eth_simulateV1", BY_VAULT, without_simulation, "eth_simulateV1"),
    Odd("node", "another chain's", REFUSED, of_another_chain, "chain id 1337999, required is"),
)
