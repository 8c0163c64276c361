"""Prepared segments in, masked batches out: streaming, masking, the collator and the loaders."""
