"""Screens: one a file; each picks, queries and draws."""
