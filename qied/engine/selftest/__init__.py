"""Small kernels that show what works on this device, run in a child process that may crash."""
