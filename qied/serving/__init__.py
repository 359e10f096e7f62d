"""From a machine, a model and a configuration to what the daemon serves."""
