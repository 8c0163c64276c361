"""Helpers that exist once: errors, files, storage, intervals, module names, run folder, strict YAML, redaction."""
