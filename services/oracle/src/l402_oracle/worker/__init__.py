"""The worker: unseals, screens, measures and aggregates. It holds no key that pays."""
