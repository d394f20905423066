"""What every section of the settings file has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A frozen section; an unknown key is an error, so that a typing mistake never silently means a default.

    Numbers are finite: neither a NaN nor an infinity is an amount, a weight or a price. The description of a field is
    what `foredrift config`, docs/settings.md and an editor say of it: what it does, its unit, which way to change it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
