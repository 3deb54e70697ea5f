"""The results database: campaigns, runs, raw samples, evidence, flags and findings, in SQLite or PostgreSQL."""

from devicelab.model.campaign import BinaryInfo, CampaignInfo
from devicelab.store.check import CheckReport
from devicelab.store.database import Store

__all__ = ["BinaryInfo", "CampaignInfo", "CheckReport", "Store"]
