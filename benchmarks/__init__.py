"""Benchmarks; each one is a command."""
