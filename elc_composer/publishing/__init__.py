"""Folders and repositories that transformers loads without this package: files, self-check, model card, branches."""
