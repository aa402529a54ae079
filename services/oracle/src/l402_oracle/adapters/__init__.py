"""The attestor's world: its tables, its clock of blocks, its URL."""
