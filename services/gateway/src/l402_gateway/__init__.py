"""The edge: L402 challenges, verification, commitments, uploads and reads."""
