"""The edge's daemon: images in, spikes out to the cloud, answers and accounting back."""
