"""The LND port: what our services need of a Lightning node (`port`), and the gRPC adapter (`grpc`)."""

import os

os.environ.setdefault("GRPC_SSL_CIPHER_SUITES", "HIGH+ECDSA")
# LND's certificates are ECDSA, which gRPC's default suites leave out; gRPC reads this once, so it is set before any
# module here can import it
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
# its notes on every lost connection are not log events of ours
