"""The knobs of both roles. Prefixes `L402_ATTESTOR_` and `L402_WORKER_`; neither class knows the other's keys."""

from pathlib import Path
from typing import Literal

from l402core.config import BusConfig, HttpConfig, LndConfig, ObjectsConfig, ServiceConfig
from l402core.succession import HAND_OVERS
from pydantic import Field
from pydantic_settings import SettingsConfigDict

HEX32 = "^[0-9a-f]{64}$"


class AttestorConfig(ServiceConfig, BusConfig, ObjectsConfig, HttpConfig, LndConfig):
    """The deciding role: its own table, keys, URL and a read-only node that tells block heights."""

    model_config = SettingsConfigDict(env_prefix="L402_ATTESTOR_", frozen=True, extra="ignore")

    key_file: Path = Field(
        default=Path("attestor.json"),
        description='JSON file {"signing_key", "seed_key", "answers_key", "preimage_keys": {id: key}}, 64 hex digits each, '
        "mode 0600; "
        "read again when it is replaced.",
    )
    hand_overs: Path | None = Field(default=None, description=HAND_OVERS)
    key_id: str = Field(
        default="", max_length=32, description="Preimage key for new offers; empty: the last id of the key file."
    )
    database_url: str = Field(
        default="sqlite:///decisions.sqlite3", description="SQLAlchemy URL of the table of decisions.", repr=False
    )
    settler_public: str = Field(default="0" * 64, pattern=HEX32, description="The settler's BIP340 public key, pinned.")
    init_seed: int = Field(default=1, ge=0, le=2**63 - 1, description="Seed of the first checkpoint's parameters.")
    expiry_margin_blocks: int = Field(
        default=24, ge=24, le=144, description="Reveal nothing this close to an HTLC's expiry; payees cancel at 18."
    )
    aggregate_places: int = Field(
        default=256,
        ge=1,
        le=10_000,
        description="Accepted updates that enter the aggregate at most, the best reputed first; all of them are paid.",
    )
    yardstick: bool = Field(
        default=True,
        description="Train one update per round by the recipe, and judge the others beside it; off: beside one another.",
    )
    height_max_age_s: int = Field(
        default=120, ge=5, le=3_600, description="A block height older than this counts as unknown."
    )
    height_poll_s: float = Field(
        default=10.0, ge=0.1, le=600, description="Seconds between two questions for the height."
    )
    tick_s: float = Field(default=0.5, ge=0.05, le=60, description="Seconds between two looks at the deadlines.")


class WorkerConfig(ServiceConfig, BusConfig, ObjectsConfig, HttpConfig):
    """The measuring role: it holds the reading key and the model, and nothing that pays."""

    model_config = SettingsConfigDict(env_prefix="L402_WORKER_", frozen=True, extra="ignore")

    key_file: Path = Field(
        default=Path("worker.json"),
        description='JSON file {"reading_key", "answers_to": the public half of the attestor\'s answers_key}, 64 hex digits '
        "each, mode 0600; read again when it is replaced.",
    )
    payload_max_bytes: int = Field(
        default=1 << 24, ge=1_024, le=1 << 30, description="Largest sealed payload that is opened."
    )
    chunk_k: int = Field(
        default=64, ge=1, le=4_096, description="Entries kept per chunk of 4096, as the terms' recipe says."
    )
    model_width: int = Field(default=128, ge=8, le=16_384, description="Width of the model.")
    model_layers: int = Field(default=4, ge=1, le=256, description="Layers of the model.")
    model_heads: int = Field(
        default=4, ge=1, le=256, description="Attention heads of the model; they divide the width."
    )
    torch_threads: int = Field(
        default=1, ge=1, le=256, description="Threads of one forward pass; results may differ in bits."
    )
    device: Literal["cpu", "cuda"] = Field(
        default="cpu", description="Where measurements run: float32 on a CPU, bfloat16 on a GPU; without one, the CPU."
    )
