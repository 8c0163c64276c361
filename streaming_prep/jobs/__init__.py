"""The jobs of a build: clean a chunk, make the tokenizer, tokenize a chunk, plan segments, write a shard."""
