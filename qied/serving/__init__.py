"""From a machine, a model and a configuration to what is served."""
