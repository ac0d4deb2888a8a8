"""How close reading and writing come to what this machine could do, beside other engines."""
