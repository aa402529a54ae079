"""L402: proof of payment as a bearer token. It refuses to know HTTP servers, Lightning nodes, storage and the time."""

from l402core.l402.caveats import Request, check
from l402core.l402.header import (
    Challenge,
    Credential,
    challenge,
    credential,
    parse_challenge,
    parse_credential,
    parse_grpc_metadata,
)
from l402core.l402.identifier import Identifier
from l402core.l402.keys import RootKeys
from l402core.l402.macaroon import Macaroon
from l402core.l402.mint import mint_token
from l402core.l402.verify import Verified, verify

__all__ = [
    "Challenge",
    "Credential",
    "Identifier",
    "Macaroon",
    "Request",
    "RootKeys",
    "Verified",
    "challenge",
    "check",
    "credential",
    "mint_token",
    "parse_challenge",
    "parse_credential",
    "parse_grpc_metadata",
    "verify",
]
