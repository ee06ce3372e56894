"""The fault campaign: kills, faults of disk and clock, and mutated inputs. ``make chaos`` runs all of it."""
