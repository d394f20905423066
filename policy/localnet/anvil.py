"""One Anvil process: its own port, its own pid, an optional saved state; ended when the owner leaves."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import signal
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from lake.errors import ExecutionError
from lake.rpc import Rpc
from policy.localnet.packages import anvil_binary

GAS_LIMIT = 30_000_000
"""Gas limit of a block: Ethereum's of 2021 to early 2025, the years most history covers."""

_GUARD = '"$@" & child=$!; exec >/dev/null 2>&1; read -r _; kill "$child"; wait "$child"'
"""A shell that ends the node when its own standard input ends: also when this process is killed outright."""

STATES_ON_DISK = 300
"""Older states of blocks kept on disk, beside some hundreds in memory: those of a whole long run filled a disk."""

_LISTENING = re.compile(r"Listening on ([\d.]+):(\d+)")


@dataclass(slots=True)
class Anvil:
    """A running node. Use as a context manager, or call :meth:`close`."""

    chain_id: int = 31_337
    base_fee_wei: int = 10**9
    timestamp: int | None = None  # where the node's clock starts, Unix seconds; now if not given
    state: Path | None = None
    cache: Path | None = None
    start_timeout_s: float = 30.0
    url: str = field(default="", init=False)
    rpc: Rpc = field(init=False)
    _process: subprocess.Popen[str] | None = field(default=None, init=False, repr=False)
    _tail: list[str] = field(default_factory=list, init=False, repr=False)

    def start(self) -> Self:
        """Start the process on a free loopback port and wait until it listens; ExecutionError if it dies."""
        command = [str(anvil_binary(self.cache)), "--host", "127.0.0.1", "--port", "0", "--no-mining"]
        command += ["--order", "fifo", "--slots-in-an-epoch", "4", "--chain-id", str(self.chain_id)]
        command += ["--block-base-fee-per-gas", str(self.base_fee_wei), "--gas-limit", str(GAS_LIMIT)]
        command += ["--balance", "1000000000", "--no-request-size-limit", "--preserve-historical-states"]
        command += ["--max-persisted-states", str(STATES_ON_DISK)]
        command += ["--disable-code-size-limit"]  # the published Roles v2 is built without an optimiser
        if self.state is not None:
            command += ["--load-state", str(self.state)]
        if self.timestamp is not None:
            command += ["--timestamp", str(self.timestamp)]
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "sh", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self._process.stdout is not None
        ready: queue.Queue[str | None] = queue.Queue()
        threading.Thread(target=self._drain, args=(self._process.stdout, ready), daemon=True).start()
        try:
            url = ready.get(timeout=self.start_timeout_s)
        except queue.Empty:
            url = None
        if url is None:
            self.close()
            raise ExecutionError("the local node did not start; it said:\n" + "\n".join(self._tail[-8:]))
        self.url = url
        self.rpc = Rpc(url, timeout=60)
        return self

    @property
    def pid(self) -> int:
        """Process id of the node's guard; ExecutionError when it is not running."""
        if self._process is None:
            raise ExecutionError("the local node is not running")
        return self._process.pid

    def close(self) -> None:
        """End this process, and only this one."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()  # the guard takes it from here
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the guard leads its own group: itself and the node
            process.wait()
        if process.stdout is not None:
            with contextlib.suppress(OSError):
                process.stdout.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def _drain(self, stream: IO[str], ready: queue.Queue[str | None]) -> None:
        with contextlib.suppress(ValueError):  # closed while reading
            for line in stream:
                found = _LISTENING.search(line)
                if found:
                    ready.put(f"http://{found[1]}:{found[2]}")
                self._tail.append(line.rstrip())
                del self._tail[:-50]
        ready.put(None)
