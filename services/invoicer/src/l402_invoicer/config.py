"""The invoicer's knobs: its node, its caps on money, and whose offers it pays. It refuses values outside their bounds."""

from pathlib import Path

from l402core.config import BusConfig, HttpConfig, LndConfig, ServiceConfig
from l402core.succession import HAND_OVERS
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class Config(ServiceConfig, BusConfig, HttpConfig, LndConfig):
    """Read from the environment, prefix `L402_INVOICER_`. Amounts are msat."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="L402_INVOICER_")

    attestor: str = Field(
        default="",
        pattern="^([0-9a-f]{64})?$",
        description="Public key of the attestor whose offers are paid; none: no ladder is ever paid.",
    )
    hand_overs: Path | None = Field(default=None, description=HAND_OVERS)
    fee_max_msat: int = Field(default=10_000_000, ge=1, description="Largest fee invoice that is minted, in msat.")
    fee_expiry_max_s: int = Field(
        default=3_600, ge=1, le=86_400, description="Longest life of a fee invoice, in seconds."
    )
    fee_cltv_expiry: int = Field(default=80, ge=24, le=2_016, description="Final CLTV of fee invoices, in blocks.")
    memo_prefix: str = Field(
        default="l402-train fee", min_length=1, max_length=64, description="How the memo of our fee invoices begins."
    )
    payment_max_msat: int = Field(default=100_000_000, ge=1, description="Largest single payment (one rung), in msat.")
    ladder_max_msat: int = Field(default=200_000_000, ge=1, description="Most that one submission may lock, in msat.")
    round_max_msat: int = Field(
        default=2 * 10**9, ge=1, description="Most that one round may send, routing included, in msat."
    )
    day_max_msat: int = Field(
        default=10**10, ge=1, description="Most that may be sent within 24 hours, routing included, in msat."
    )
    routing_fee_max_msat: int = Field(default=100_000, ge=0, description="Largest routing fee of one rung, in msat.")
    cltv_limit_max: int = Field(default=2_016, ge=24, description="Longest that a rung may lock our funds, in blocks.")
    sponsor_max_msat: int = Field(
        default=10**9, ge=1_000, description="Largest hold invoice that is minted for a sponsor, in msat."
    )
    sponsor_expiry_max_s: int = Field(
        default=3_600, ge=1, le=86_400, description="Longest time in which a sponsor's invoice may be paid."
    )
    sponsor_cltv_max: int = Field(
        default=2_016, ge=24, le=2_016, description="Highest final CLTV of a sponsor's hold invoice, in blocks."
    )
    sponsor_memo_prefix: str = Field(
        default="l402-train sponsor",
        min_length=1,
        max_length=64,
        description="How the memo of sponsors' invoices begins.",
    )
    pay_timeout_s: int = Field(default=10, ge=1, le=120, description="How long LND may look for a route for one rung.")
    rungs_at_once: int = Field(default=192, ge=1, le=483, description="Rungs that are being sent at the same time.")
    retry_max_s: float = Field(default=10.0, gt=0, le=300, description="Longest pause before listening to LND again.")
