"""What the storage beneath the lake may refuse, as one line: what is safe, and what to do."""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from contextlib import contextmanager

from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from polars.exceptions import ComputeError

from lake.errors import ForedriftError, StoreError

_SAFE = "what was written before is safe and nothing of this step is half there"
_BY_CODE = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "the disk quota is used up: free some space or raise it",
    errno.EFBIG: "a file may not grow further (a limit on file size): raise the limit or free some space",
    errno.EROFS: "the file system is read-only: mount it writable or set another [lake] path",
    errno.EACCES: "permission is denied: give this user read and write access to the folder",
    errno.EPERM: "permission is denied: give this user read and write access to the folder",
    errno.ENOTDIR: "a part of its path is a file, not a folder: move the file or set another [lake] path",
    errno.EEXIST: "a file stands where a folder belongs: move the file or set another [lake] path",
    errno.EISDIR: "a folder stands where a file belongs: move it away",
    errno.EIO: "the disk answers with read or write errors: check it, then restore the lake from a backup",
    errno.EMFILE: "too many files are open: raise the limit (ulimit -n)",
    errno.ENAMETOOLONG: "its path is too long: move the project to a shorter one",
}
_BROKEN = (
    "its files do not fit its log (one is missing, cut off or not JSON): restore the folder from a backup, or move "
    "it away and import or ingest again"
)
_CODE = re.compile(r"os error (\d+)")
_OURS = re.compile(r"parquet|_delta_log", re.IGNORECASE)  # what a fault of the lake's own files speaks of
_NOT_KEPT = re.compile(r"no locator available for file '([^']+)'")  # numba's words where no cache can be written
_FAULTS = (OSError, DeltaError, ComputeError)


def explained(error: BaseException, what: str) -> StoreError | None:
    """Return the one-line error for a storage fault met while touching ``what``; None where it is no such fault."""
    compiled = _NOT_KEPT.search(str(error)) if isinstance(error, RuntimeError) else None
    if compiled is not None:
        return StoreError(
            f"compiled code of {compiled[1]} can be kept neither beside it nor in this user's cache folder: the disk "
            f"is full or read-only; free some space, or set NUMBA_CACHE_DIR to a folder that can be written; {_SAFE}"
        )
    if not isinstance(error, _FAULTS) or isinstance(error, CommitFailedError | TableNotFoundError):
        return None
    code = error.errno if isinstance(error, OSError) else None
    found = _CODE.search(str(error))
    if code is None and found:
        code = int(found[1])
    if code not in _BY_CODE and not isinstance(error, DeltaError) and not _OURS.search(str(error)):
        return None
    first = " ".join(str(error).split())[:160]
    return StoreError(f"{what} cannot be read or written: {_BY_CODE.get(code or 0, _BROKEN)}; {_SAFE} ({first})")


@contextmanager
def storage(what: str) -> Iterator[None]:
    """Turn what the storage refuses inside the block into a StoreError about ``what``; the rest passes."""
    try:
        yield
    except (ForedriftError, CommitFailedError, TableNotFoundError):
        raise
    except BaseException as error:
        told = explained(error, what)
        if told is None and type(error).__name__ == "PanicException":  # the Rust side lost its footing on the files
            told = StoreError(f"{what} cannot be read or written: {_BROKEN}; {_SAFE} ({str(error)[:160]})")
        if told is None:
            raise
        raise told from error
