"""Helpers of the monitors: samples, probes, local shards, record files, logger destinations."""
