"""The l402-train command line and the one-command local network."""
