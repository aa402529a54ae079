"""Attacks on the network, each as small as it can be, to be seen failing. They pay and lock like anybody else."""
