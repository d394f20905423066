"""Every exception Foredrift raises on purpose, in one tree.

    ForedriftError
    ├── ConfigError          the user's settings or arguments are wrong        (exit code 2)
    │   └── PortTaken        something else answers on the page's port      (pipelines.scheduled.page)
    ├── DataError            rows, files or tables break their contract
    │   ├── SchemaError      columns, types or units do not fit the table
    │   └── NotEnoughData    too little history for what was asked
    ├── StoreError           the disk or bucket beneath a store refused, or its files are damaged
    ├── LakeConflict         another writer kept winning the commit race
    ├── SourceError          a data source refused, lied or could not be reached
    │   ├── SourceUnavailable  it did not answer now; asking again may help
    │   │   └── ServiceDown    a bridge's attestation service does not say     (policy.execution.bridges.attestations)
    │   └── RpcError         a node answered with an error, or not at all
    │       └── WrongChain     it belongs to another chain                     (lake.rpc)
    ├── ModelError           a model cannot be loaded or does not fit its input
    └── ExecutionError       the execution path met a bug or a dead dependency
        ├── VaultBusy        another process acts for the vault now             (policy.execution.records.journal)
        ├── OwnedElsewhere   another keeper keeps the vault block by block      (policy.execution.records.owner)
        ├── Damaged          a record's chain of hashes is broken               (policy.execution.records.hashlog)
        ├── Stopped          trading was stopped while a cycle was under way    (policy.execution.attempts)
        ├── OtherVault       what was read belongs to another vault             (policy.execution.base)
        ├── NoWheel          a wheel with published bytecode cannot be fetched   (policy.localnet.wheels)
        ├── WrongUnits       an amount has no whole units on the other chain    (policy.execution.bridges.base)
        ├── Refused          a transaction would revert if it were sent     (policy.execution.transfers.ends)
        ├── TransfersBusy    another run holds the portfolio's transfers    (policy.execution.transfers.journal)
        ├── StillPending     an earlier transaction is not mined yet        (policy.execution.submission.written_ahead)
        └── NoNode           Node.js is missing, which the local chain needs    (policy.localnet.packages)

One stands apart because nothing of Foredrift can be imported yet when it is raised: ForeignPackageError, an ImportError
(foredrift.ours): a folder that lies in the way has taken the place of a package of this project.

What the market or the chain may *refuse* (stale oracle, unprofitable trade, reverted simulation) is not
an exception but a returned verdict; see ``policy.execution.base.Verdict``.
"""

from __future__ import annotations


class ForedriftError(Exception):
    """Base of all deliberate errors; the message says what was given, what is required and what to do."""


class ConfigError(ForedriftError):
    """The user's settings or arguments are wrong; the command exits with 2."""


class DataError(ForedriftError):
    """Rows, files or tables break their contract."""


class SchemaError(DataError):
    """Columns, types or units do not fit the table."""


class NotEnoughData(DataError):
    """Too little history for what was asked."""


class StoreError(ForedriftError):
    """The disk or bucket beneath a store refused, or its files are damaged; what was committed before is safe."""


class LakeConflict(ForedriftError):
    """Another writer kept winning the commit race; nothing was written by this one."""


class SourceError(ForedriftError):
    """A data source refused, returned malformed data or could not be reached."""


class SourceUnavailable(SourceError):
    """A source did not answer now (time-out, rate limit, broken answer); the same read may succeed later.

    ``retry_after_s`` is the wait the source asked for, None where it asked for none.
    """

    def __init__(self, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class RpcError(SourceError):
    """A node answered with an error object, with nonsense, or not at all.

    ``code`` is the JSON-RPC error code where there is one; ``data`` the revert data as a hex string.
    """

    def __init__(self, message: str, code: int | None = None, data: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class ModelError(ForedriftError):
    """A model cannot be loaded or does not fit its input."""


class ExecutionError(ForedriftError):
    """The execution path met a bug or a dead dependency; refusals are verdicts, not exceptions."""
