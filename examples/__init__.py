"""Short scripts that a newcomer can run top to bottom."""
