"""A network of real lnds on a simnet of its own, in one command. Whoever uses it sees `nodes.json`, as lndsim writes it."""
