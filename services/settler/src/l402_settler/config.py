"""The settler's knobs. Prefix `L402_SETTLER_`."""

from pathlib import Path
from typing import Self

from l402core.config import BusConfig, HttpConfig, LndConfig, ServiceConfig
from l402core.documents import LADDER
from l402core.succession import HAND_OVERS
from pydantic import Field, model_validator
from pydantic_settings import SettingsConfigDict

from l402_settler.exposure import Cap, ExposureCaps, Need

HEX32 = "^[0-9a-f]{64}$"


class Config(ServiceConfig, BusConfig, HttpConfig, LndConfig):
    """Books, rounds, money, deadlines and Lightning policy of one coordinator."""

    model_config = SettingsConfigDict(env_prefix="L402_SETTLER_", frozen=True, extra="ignore")

    key_file: Path = Field(
        default=Path("settler.json"),
        description='JSON file {"signing_key", "sealing_key"}, 64 hex digits each, mode 0600; read again when it is replaced.',
    )
    hand_overs: Path | None = Field(default=None, description=HAND_OVERS)
    database_url: str = Field(default="sqlite:///books.sqlite3", description="SQLAlchemy URL of the books.", repr=False)
    attestor_public: str = Field(default="0" * 64, pattern=HEX32, description="The oracle's BIP340 public key, pinned.")
    reading_public: str = Field(default="0" * 64, pattern=HEX32, description="X25519 key that payloads are sealed to.")
    attestor_url: str = Field(default="http://127.0.0.1:8403", description="The oracle's own URL, named in the terms.")
    expected_peers: tuple[str, ...] = Field(
        default=(),
        description="JSON list of peers' public keys; a phase ends once all of them are through. Empty: deadlines only.",
    )
    rounds: int = Field(default=0, ge=0, description="Open no round after this one; 0: no limit.")

    fee_msat: int = Field(default=500_000, ge=1, le=10**12, description="Fee for one submission.")
    unit_msat: int = Field(
        default=100_000, ge=1_000, le=10**12, description="The ladder's lowest rung; a ladder is 63 units."
    )
    places: int = Field(default=8, ge=1, le=10_000, description="Submissions per round.")
    phi_ppm: int = Field(default=600_000, ge=0, le=1_000_000, description="Floor of pay, as a part of the reference.")
    eval_tokens: int = Field(
        default=65_536, ge=1_024, le=1 << 24, description="Hidden tokens each gradient is measured on."
    )
    day_cap_msat: int = Field(
        default=10**10,
        ge=1,
        description="Most that may be locked in rewards within 24 hours, added up in slots of ten minutes.",
    )
    peer_rungs: int = Field(
        default=2 * len(LADDER),
        ge=len(LADDER),
        le=100_000,
        description="Rungs that may be out or promised to one peer: two rounds' worth. Hanging ones count.",
    )
    peer_exposure_msat: int = Field(
        default=0, ge=0, description="Most that may be out or promised to one peer; 0: two ladders."
    )
    payee_rungs: int = Field(
        default=16 * len(LADDER),
        ge=len(LADDER),
        le=100_000,
        description="Rungs that may be out or promised to one payee's node, whoever its peers are.",
    )
    payee_exposure_msat: int = Field(
        default=0, ge=0, description="Most that may be out or promised to one payee's node; 0: sixteen ladders."
    )
    fee_limit_msat: int = Field(default=10_000, ge=0, description="Routing fee allowed per rung, and kept free for it.")

    commit_s: int = Field(
        default=60, ge=1, le=86_400, description="From opening to the last commitment (training included)."
    )
    lock_s: int = Field(default=15, ge=1, le=3_600, description="From the last commitment to the last lock.")
    upload_s: int = Field(default=15, ge=1, le=3_600, description="From the last lock to the last upload.")
    judge_s: int = Field(default=60, ge=1, le=3_600, description="From the last upload to the decision.")
    answer_wait_ms: int = Field(
        default=2_000, ge=0, le=4_000, description="How long an answer waits for the offer, or for the lock, to come."
    )
    owed_lock_s: int = Field(
        default=43_200, ge=60, le=604_800, description="How long a new offer of what is owed waits for its invoices."
    )
    owed_pay_s: int = Field(
        default=120, ge=5, le=3_600, description="From those invoices to the last moment to begin paying them."
    )
    owed_offers: int = Field(
        default=48, ge=1, le=1_000, description="New offers of one reward; untaken, it then stays in the books as owed."
    )
    never_sent_s: int = Field(
        default=60, ge=1, le=3_600, description="How long after not_after NotFound proves 'never sent'."
    )

    fee_memo_prefix: str = Field(
        default="l402-train fee", min_length=1, max_length=64,
        description="How the memo of our fee invoices begins, as the invoicer's memo_prefix: a lost fee is known by it.",
    )  # fmt: skip
    reconcile_s: int = Field(
        default=60, ge=1, le=86_400,
        description="How often the books are compared with LND's own lists; less often where that takes long.",
    )  # fmt: skip
    reveal_blocks: int = Field(
        default=24, ge=6, le=1_000, description="Blocks from opening within which a reveal may happen."
    )
    cltv_min: int = Field(default=60, ge=24, le=2_000, description="Lowest final CLTV of a reward invoice.")
    cltv_max: int = Field(default=200, ge=60, le=2_016, description="Highest final CLTV of a reward invoice.")
    cltv_route_slack: int = Field(
        default=200, ge=0, le=2_016, description="Blocks the route may add to a payment's CLTV."
    )
    invoice_expiry_min_s: int = Field(default=600, ge=60, le=86_400, description="Shortest expiry of a reward invoice.")
    guardian_blocks: int = Field(
        default=24, ge=24, le=144, description="Alarm this many blocks before an open HTLC expires."
    )
    slots_per_channel: int = Field(default=483, ge=1, le=483, description="HTLC slots per channel and direction.")

    sponsorships_open: int = Field(
        default=8, ge=0, le=1_000, description="Sponsorships that may be open at a time, expected ones apart."
    )
    sponsor_tranches_max: int = Field(default=64, ge=1, le=255, description="Most tranches (rounds) of a sponsorship.")
    sponsor_min_msat: int = Field(
        default=1_000_000, ge=1_000, le=10**12, description="Smallest tranche; dust would be lost in a force-close."
    )
    sponsor_max_msat: int = Field(default=10**9, ge=1_000, le=10**12, description="Largest tranche.")
    sponsor_announce_s: int = Field(
        default=300, ge=5, le=86_400, description="How long a pledge waits for the oracle's hashes."
    )
    sponsor_pay_s: int = Field(default=60, ge=1, le=3_600, description="How long a sponsor may take to pay a tranche.")
    sponsor_judge_s: int = Field(
        default=600, ge=1, le=86_400, description="How long after a round's judge_by its tranche waits for the oracle."
    )
    sponsor_cltv: int = Field(default=144, ge=60, le=2_016, description="Final CLTV of a sponsor's hold invoice.")
    sponsor_round_blocks: int = Field(
        default=72, ge=6, le=1_000, description="Blocks that a round may take: an HTLC must outlive it and the margin."
    )
    sponsor_margin_blocks: int = Field(
        default=24, ge=24, le=144, description="A tranche that is not judged so near its expiry is given back."
    )
    expected_sponsors: tuple[str, ...] = Field(
        default=(),
        description="JSON list of sponsors' public keys that a round waits for; whoever else may sponsor, nobody waits.",
    )
    sponsor_wait_s: int = Field(
        default=15,
        ge=0,
        le=600,
        description="Longest that a round waits for an expected sponsor; then it opens without.",
    )

    payload_max_bytes: int = Field(default=1 << 24, ge=1_024, le=1 << 30, description="Largest sealed payload.")
    inner_steps: int = Field(default=20, ge=1, le=10_000, description="Inner steps H of the recipe.")
    batch: int = Field(default=8, ge=1, le=4_096, description="Sequences per inner step.")
    sequence_length: int = Field(default=128, ge=8, le=65_536, description="Tokens per sequence.")
    learning_rate_ppm: int = Field(default=2_000, ge=1, le=1_000_000, description="Inner AdamW learning rate, ppm.")
    feedback_decay_ppm: int = Field(default=800_000, ge=0, le=1_000_000, description="Error feedback decay, ppm.")
    outer_rate_ppm: int = Field(default=1_300_000, ge=1, le=10_000_000, description="Outer learning rate, ppm.")
    chunk_k: int = Field(default=64, ge=1, le=4_096, description="Entries kept per chunk of 4096.")

    def routed_ladder_msat(self) -> int:
        """A whole ladder, and the most that its routes may cost."""
        return Need(self.unit_msat * sum(LADDER), len(LADDER)).routed_msat(self.fee_limit_msat)

    def exposure_caps(self, ladder_msat: int) -> ExposureCaps:
        """The caps on one peer and one payee, in money and rungs."""
        peer_msat = self.peer_exposure_msat or 2 * ladder_msat
        payee_msat = self.payee_exposure_msat or 16 * ladder_msat
        return ExposureCaps(
            peer=Cap(msat=peer_msat, rungs=self.peer_rungs), payee=Cap(msat=payee_msat, rungs=self.payee_rungs)
        )

    @model_validator(mode="after")
    def _cltv_has_room(self) -> Self:
        if self.cltv_max < self.cltv_min:
            raise ValueError(f"cltv_max {self.cltv_max} is below cltv_min {self.cltv_min}")
        if self.sponsor_cltv < self.sponsor_round_blocks + self.sponsor_margin_blocks:
            raise ValueError(f"sponsor_cltv {self.sponsor_cltv} is below sponsor_round_blocks and the margin")
        return self
