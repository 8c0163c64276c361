"""Minimal pairs and pseudo-log-likelihoods, for any masked language model."""
