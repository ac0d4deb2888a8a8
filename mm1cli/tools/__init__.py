"""What can be asked of documents, and computed, without a large model."""
