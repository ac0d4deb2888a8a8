"""An OpenAI-compatible server on loopback: `mm1 serve`."""
