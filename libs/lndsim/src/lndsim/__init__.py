"""A simulated Lightning network that speaks LND's gRPC over TLS with macaroons."""
