"""Questions in turn: a session over documents, or with the model alone."""
