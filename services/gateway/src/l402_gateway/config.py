"""The gateway's knobs: limits on mints, bodies, uploads and hints. It refuses values outside their bounds."""

from pathlib import Path
from typing import Literal

from l402core.config import BusConfig, HttpConfig, ObjectsConfig, ServiceConfig
from pydantic import Field
from pydantic_settings import SettingsConfigDict


class Config(ServiceConfig, BusConfig, ObjectsConfig, HttpConfig):
    """Read from the environment, prefix `L402_GATEWAY_`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="L402_GATEWAY_")

    key_file: Path = Field(
        default=Path("gateway.json"),
        description="The ring of L402 root keys, mode 0600; read again when it is replaced.",
    )
    redis_url: str = Field(
        default="redis://127.0.0.1:6379/0",
        description="Redis for limits and unpaid challenges; never the ledger.",
        repr=False,
    )
    bad_credential_status: Literal[402, 401] = Field(
        default=402, description="Status for a credential that does not verify; 401 follows the newest L402 text."
    )
    bus_timeout_s: float = Field(default=5.0, gt=0, le=30, description="Longest wait for an answer over the bus.")
    read_cache_ms: int = Field(default=250, ge=0, le=5_000, description="How long a read may be answered from memory.")
    show_channels: bool = Field(
        default=False, description="Whether anybody may read the channels' balances and flow, here and on the page."
    )
    show_metrics: bool = Field(
        default=False, description="Whether /metrics is served at this address, which everybody may reach."
    )
    fee_expiry_s: int = Field(default=600, ge=60, le=3_600, description="Longest life of a fee invoice, in seconds.")
    challenge_margin_s: int = Field(
        default=15, ge=1, le=300, description="An unpaid invoice is not handed out again this close to its expiry."
    )
    mint_window_s: int = Field(
        default=60, ge=1, le=3_600, description="Window of the limits on fee invoices and pledges."
    )
    mints_per_client: int = Field(
        default=120, ge=1, le=1_000_000, description="Fee invoices per client address and window."
    )
    mints_per_peer: int = Field(default=30, ge=1, le=1_000_000, description="Fee invoices per peer key and window.")
    mints_in_all: int = Field(default=3_000, ge=1, le=10_000_000, description="Fee invoices per window, all together.")
    pledges_per_client: int = Field(
        default=10, ge=1, le=10_000, description="Sponsors' pledges per client address and window."
    )
    pledges_in_all: int = Field(default=60, ge=1, le=100_000, description="Sponsors' pledges per window, all together.")
    body_max_bytes: int = Field(default=65_536, ge=1_024, le=1 << 20, description="Largest JSON body.")
    body_timeout_s: float = Field(
        default=10.0, gt=0, le=300, description="Longest time for a JSON body, and longest pause in an upload."
    )
    payload_max_bytes: int = Field(
        default=64 << 20, ge=1_024, le=1 << 30, description="Largest upload, whatever a round's terms allow."
    )
    upload_timeout_s: float = Field(default=120.0, gt=0, le=3_600, description="Longest time for a whole upload.")
    uploads_at_once: int = Field(default=32, ge=1, le=10_000, description="Uploads that are received at the same time.")
    hint_clients: int = Field(default=500, ge=1, le=100_000, description="Listeners to server-sent events.")
    hint_queue: int = Field(default=256, ge=1, le=10_000, description="Hints a slow listener may lag before it is cut.")
    hint_keepalive_s: float = Field(default=15.0, gt=0, le=300, description="Pause after which a comment keeps alive.")
    object_rounds: int = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Rounds, newest first, whose public objects and checkpoints are served.",
    )
