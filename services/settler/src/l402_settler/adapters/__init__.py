"""The settler's world: SQL tables and the functions that keep the books in them."""
