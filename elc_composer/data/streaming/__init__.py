"""Subclasses of Streaming's datasets: downloads that fail loudly, cache limits, checked indexes."""
