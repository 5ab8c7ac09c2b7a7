"""The cloud's daemon: frames in, predictions out."""
