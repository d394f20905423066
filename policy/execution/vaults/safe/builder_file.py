"""Files for Safe{Wallet}: a batch of calls as its transaction builder imports it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from eth_utils.crypto import keccak

BUILDER = "1.18.0"
"""Version of the transaction builder whose format is written (unchanged since 1.8)."""


def builder_file(
    chain_id: int, safe: str, name: str, calls: Sequence[tuple[str, bytes]], at: datetime
) -> dict[str, Any]:
    """Return ``calls`` (contract, data) as a batch of ``safe`` for the transaction builder, with its checksum."""
    meta = {
        "name": name, "description": "", "txBuilderVersion": BUILDER, "createdFromSafeAddress": safe,
        "createdFromOwnerAddress": "",
    }  # fmt: skip
    rows = [
        {"to": to, "value": "0", "data": "0x" + data.hex(), "contractMethod": None, "contractInputsValues": None}
        for to, data in calls
    ]
    made = {
        "version": "1.0", "chainId": str(chain_id), "createdAt": int(at.timestamp() * 1_000), "meta": meta,
        "transactions": rows,
    }  # fmt: skip
    return made | {"meta": meta | {"checksum": checksum(made)}}


def checksum(made: Mapping[str, Any]) -> str:
    """Return the checksum the transaction builder compares: keccak of the batch with sorted keys, its name left out."""
    meta = {k: v for k, v in made["meta"].items() if k != "checksum"} | {"name": None}
    return "0x" + keccak(text=_serialised({**made, "meta": meta})).hex()


def _serialised(value: Any) -> str:
    if isinstance(value, Mapping):
        keys = sorted(value)
        inner = "".join(f"{_serialised(value[k])}," for k in keys)
        return "{" + json.dumps(keys, separators=(",", ":")) + inner + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_serialised(v) for v in value) + "]"
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
