"""Small kernels that measure on this device what a table can only promise; run in a child process of the probe."""
