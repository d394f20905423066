"""Servers started as child processes: a free port, waiting until one answers, and ending with whoever started it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from lake.errors import ForedriftError

SAY_S = 10.0  # between words to a person who waits


def free_port() -> int:
    """Return a port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def usual_port(file: Path) -> int:
    """Return the port kept in ``file`` while it is free, else a free one, which is kept: addresses outlive restarts."""
    try:
        port = int(file.read_text(encoding="ascii"))
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except (OSError, ValueError, OverflowError):
        port = free_port()
        file.write_text(f"{port}\n", encoding="ascii")
        file.chmod(0o600)
    return port


def wait_until_healthy(
    process: subprocess.Popen[bytes],
    url: str,
    hint: str,
    seconds: float = 120,
    still: Callable[[float], None] = lambda _: None,
) -> None:
    """Return when ``url`` answers 200; raises ForedriftError with ``hint`` when the process ends or time is up.

    ``still`` is called about every ten seconds of waiting, with how many there were.
    """
    began = said = time.monotonic()
    while (now := time.monotonic()) < began + seconds:
        if now >= said + SAY_S:
            said = now
            still(now - began)
        if process.poll() is not None:
            raise ForedriftError(f"the server ended at start with code {process.returncode}; {hint}")
        try:
            if httpx.get(url, timeout=2).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            time.sleep(0.2)
            continue
        time.sleep(0.2)
    raise ForedriftError(f"the server did not answer at {url} within {seconds:.0f} s; {hint}")


def end_with_parent() -> None:
    """Let SIGTERM come to this process when its standard input ends: a pipe that only whoever started it holds."""

    def watch() -> None:
        while os.read(0, 1_024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def stop(process: subprocess.Popen[bytes], seconds: float = 15) -> None:
    """End a child process: asked first, then killed."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
