"""Measurements that anyone can repeat; each writes JSON with device and library versions to ``results/``."""
