"""A review of a repository or of a change to it: findings that the program has checked."""
