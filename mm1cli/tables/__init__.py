"""Templates: questions asked of every document, filled into tables."""
