"""Spike sites in a row, as every payload scheme sees them."""

import numpy as np
import numpy.typing as npt

Sites = npt.NDArray[np.uint8]  # [n] of {0, 1}, order [T, C, H, W]
Prior = npt.NDArray[np.uint16]  # probability of a spike times 65,536, 1 to 65,535
