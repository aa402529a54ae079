"""The LND port: what our services need of a Lightning node (`port`), and the gRPC adapter (`grpc`)."""
