"""What is found: passages, bm25, the reranker, the retriever that joins them."""
