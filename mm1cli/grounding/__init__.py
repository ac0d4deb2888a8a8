"""What is proved: quotations matched to the source, attribution, claims, dates."""
