"""The peer-agent's knobs: whom it trusts, what it may spend, where it keeps its state. It refuses values out of bounds."""

from pathlib import Path

from l402core.config import LndConfig, ServiceConfig
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from l402_peer_agent.adversaries.names import Kind


class Config(ServiceConfig, LndConfig):
    """Read from the environment, prefix `L402_PEER_`. Amounts are msat."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="L402_PEER_")

    name: str = Field(default="peer", pattern="^[A-Za-z0-9_-]{1,64}$", description="Name for logs and invoices' memos.")
    gateway_url: str = Field(default="http://127.0.0.1:8402", description="Base URL of the coordinator's gateway.")
    key_file: Path = Field(default=Path("peer.json"), description='Keys: {"identity": hex, "sealing": hex}, mode 0600.')
    kind: Kind = Field(default="honest", description="How it trains; all but honest are attacks for the demonstration.")
    rounds: int = Field(
        default=0, ge=0, description="Rounds to take part in before it exits; 0: until the network is done."
    )
    settler: str = Field(
        default="", pattern="^([0-9a-f]{64})?$", description="The settler's public key; none: trust the first one seen."
    )
    attestor: str = Field(
        default="",
        pattern="^([0-9a-f]{64})?$",
        description="The attestor's public key; none: trust the first one seen.",
    )
    fee_cap_msat: int = Field(default=2_000_000, ge=0, description="Most that it pays to submit in one round, in msat.")
    total_cap_msat: int = Field(default=100_000_000, ge=0, description="Most that it pays in fees ever, in msat.")
    routing_fee_max_msat: int = Field(default=10_000, ge=0, description="Most that it pays to route one fee, in msat.")
    pay_timeout_s: int = Field(default=10, ge=1, le=120, description="How long one look at a fee payment may take.")
    poll_s: float = Field(default=1.0, gt=0, le=60, description="Pause between two looks when no hint comes.")
    grace_s: float = Field(
        default=45.0,
        ge=0,
        le=600,
        description="How long after its deadline a decision is waited for: longer than oracle (15 s) and settler (30 s) do.",
    )
    owed_poll_s: float = Field(default=10.0, gt=0, le=3_600, description="Pause between two looks at what is owed.")
    idle_exit_s: float = Field(
        default=60.0,
        gt=0,
        description="It exits when the current round has been done, or the gateway silent, for so long.",
    )
    payload_max_bytes: int = Field(default=64 << 20, ge=1, description="Largest payload that it makes.")
    checkpoint_max_bytes: int = Field(default=1 << 30, ge=1, description="Largest checkpoint that it downloads.")
    hand_over_to: Path | None = Field(
        default=None, description="Attack: an honest peer leaves its packed payload here once its submission is open."
    )
    hand_over_from: tuple[Path, ...] = Field(
        default=(), description="Attack: JSON list of the files that an accomplice takes others' payloads from."
    )
    pool_leader: str = Field(
        default="",
        pattern="^([0-9a-f]{64})?$",
        description="Attack: public key of the first of one owner's identities.",
    )
    pool_member: int = Field(default=0, ge=0, le=1_000, description="Attack: this identity's number in its pool.")
    pool_members: int = Field(default=1, ge=1, le=1_000, description="Attack: identities in the pool.")
