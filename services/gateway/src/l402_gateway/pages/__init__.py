"""Pages for people, rendered here: they need no script to be read, and show nothing that the reads do not."""
