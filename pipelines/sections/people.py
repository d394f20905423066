"""Sections of the settings about people: the portfolio page, the chat, and who may pause the vault."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from pipelines.sections.base import Section
from pipelines.setting_types import Distinct, Name, Url

PORT = 9465


class PageSection(Section):
    """[page] The portfolio page. It has no button that moves money; read it from this machine only, or with a token."""

    port: int = Field(default=PORT, ge=1, le=65_535, description="Port of the page.")
    bind: Name = Field(default="127.0.0.1", description="Address it answers on; any but loopback demands a token_file.")
    token_file: str | None = Field(
        default=None, description="File whose content is the password of the page, at least 16 characters."
    )
    off: bool = Field(default=False, description="Leave the page out of `foredrift serve`.")


class ChatSection(Section):
    """[chat] Telegram: /status /next /portfolio /stop. The token is in FOREDRIFT_TELEGRAM_TOKEN(_FILE), never here."""

    allowed: Annotated[tuple[int, ...], Distinct] = Field(
        default=(), description="Id numbers of the Telegram users who are answered; none: the chat stays off."
    )
    url: Url = Field(default="https://api.telegram.org", description="Address of the Bot API.")


class StopSection(Section):
    """[stop] What `foredrift stop` does besides halting every run and keeper of the project."""

    guardian: str | None = Field(
        default=None, description="Encrypted keystore of the vault's guardian: stop pauses the vault with it."
    )
