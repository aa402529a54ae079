"""Begins obligations on Lightning: mints fee invoices and locks reward ladders."""
