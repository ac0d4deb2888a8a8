"""Models on disk: the registry, downloads, and those that mm1 carries as a delta."""
