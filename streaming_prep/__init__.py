"""Prepare BabyLM corpora and plain text for training: clean, tokenize, pack, write MDS shards."""
