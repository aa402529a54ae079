"""The peer-agent's view of the world: the gateway over HTTP, and its own journal on disk."""
