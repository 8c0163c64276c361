"""One training run: settings, checks before the start, objects built from the config, stages, records."""
