"""Minimal pairs as evaluators of a Composer training run."""
