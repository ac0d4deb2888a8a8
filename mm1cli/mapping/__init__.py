"""One answer for each of many documents: the lines of `mm1 map`, and what they come to."""
