"""What is proved: quotations found in the source, attribution, claims, dates."""
