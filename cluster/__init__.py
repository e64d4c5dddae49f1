"""Who renders: gangs of GPUs on Ray. Owns ray; takes its work from jobs and its rendering from engine."""
