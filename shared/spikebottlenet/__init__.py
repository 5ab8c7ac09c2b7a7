"""SpikeBottleNet: split computing with a spiking head."""

__version__ = "0.1.0"
