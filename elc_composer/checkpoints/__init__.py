"""Saving and resuming a run's own training state: files, S3 copies, integrity checks."""
