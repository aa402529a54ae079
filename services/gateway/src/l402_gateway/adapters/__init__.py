"""The gateway's view of the world: Redis for what may be forgotten."""
