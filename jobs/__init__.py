"""What a person asks: the command line, the plan and the driver. Owns omegaconf."""
