"""The cloud's half on many machines: the same service and the same tails, deployed by Ray Serve."""
