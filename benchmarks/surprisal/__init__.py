"""How often a seeded bug is among the most surprising lines of its file."""
