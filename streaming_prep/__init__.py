"""BabyLM corpora, and plain text, to MDS shards."""
