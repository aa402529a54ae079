"""What every l402-train service shares: L402, macaroons, BOLT11, money, events, bus, LND port, telemetry."""
