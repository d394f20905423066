"""The sections of the settings file, each checked when it is loaded: one file a group of them."""

from __future__ import annotations

from pipelines.sections.base import Section
from pipelines.sections.chains import BridgeSection, FleetChain, TransfersSection, chains_fault, with_chains
from pipelines.sections.further import DeploymentSection, start_fault, start_weights, with_fallbacks
from pipelines.sections.holdings import CostsSection, MandateSection, PolicySection, PortfolioSection
from pipelines.sections.people import ChatSection, PageSection, StopSection
from pipelines.sections.stores import (
    BlocksSource,
    ExchangeSection,
    FeedRow,
    LakeSection,
    MlflowSection,
    PoolRow,
    SampleSection,
    Sources,
)
from pipelines.sections.vaults import SHARED_JOURNAL, ChainSection, VaultSection
from pipelines.sections.work import CompareSection, KeepSection, ModelsSection, ScheduleSection, WatchSection

__all__ = [
    "SHARED_JOURNAL",
    "BlocksSource",
    "BridgeSection",
    "ChainSection",
    "ChatSection",
    "CompareSection",
    "CostsSection",
    "DeploymentSection",
    "ExchangeSection",
    "FeedRow",
    "FleetChain",
    "KeepSection",
    "LakeSection",
    "MandateSection",
    "MlflowSection",
    "ModelsSection",
    "PageSection",
    "PolicySection",
    "PoolRow",
    "PortfolioSection",
    "SampleSection",
    "ScheduleSection",
    "Section",
    "Sources",
    "StopSection",
    "TransfersSection",
    "VaultSection",
    "WatchSection",
    "chains_fault",
    "start_fault",
    "start_weights",
    "with_chains",
    "with_fallbacks",
]
