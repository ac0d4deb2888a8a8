"""Measurements. `python -m benchmarks.NAME`; what they gave is in LOG.md."""

import os

# As the user set it: what engine tells OpenMP is for mm1, not for the programs beside it.
PEER_ENVIRONMENT = dict(os.environ)
