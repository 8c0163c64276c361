"""Fine-tuning on classification tasks: tasks, presets of the BabyLM pipelines, jobs, sweeps and their tables."""
