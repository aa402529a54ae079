"""The attestor: makes offers, judges rounds, decides once, reveals. It imports no torch."""
