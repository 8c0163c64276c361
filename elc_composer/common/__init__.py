"""Shared helpers: errors, files, storage, intervals, module names, run folder, run configs, redaction."""
