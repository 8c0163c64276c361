"""A prepared data folder as training and preparation see it: tokenizer files, special tokens, layout, index safety."""
