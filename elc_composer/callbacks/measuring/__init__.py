"""Measurements that the monitors share: samples, probes, local shards, record files, logger destinations."""
