"""The invoicer's view of the world: its cursor on disk."""
