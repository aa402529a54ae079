"""Ends obligations: the books, the states of escrows and rounds."""
