"""The GPU day: tests, ceilings, kernels and real layers on one device, by one command."""
