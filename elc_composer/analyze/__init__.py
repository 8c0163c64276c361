"""Layer weights of finished models: compared, and pruned to see what is lost."""
