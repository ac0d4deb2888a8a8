"""An OpenAI-compatible server on loopback: `mm1 serve`."""

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})  # who names them is on this machine
