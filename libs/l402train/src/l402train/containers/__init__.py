"""What `compose.yaml` needs beside the services: their secrets, a funded Lightning network, rounds followed from outside."""
