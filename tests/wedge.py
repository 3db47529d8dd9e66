"""The map that alignments and metrics are held against: numbers that others computed for it.

Nothing here uses distill.
"""

import numpy as np
import torch


def wedge() -> list[torch.Tensor]:
    """Truth, valid, and a disparity and a depth with smooth errors, (24, 32), float64.

    A tilted plane with a step, two far rows, and holes.
    """
    y, x = np.mgrid[0:24, 0:32].astype(float)
    truth = 2 + 0.1 * x + 0.05 * y + 3 * (x >= 16)
    truth[y < 2] = 60
    disparity = 0.8 / truth + 0.1 + 0.02 * np.sin(0.7 * x + 0.3 * y)
    depth = 1.5 * truth + 0.4 + 0.3 * np.cos(0.5 * x - 0.2 * y)
    return [torch.from_numpy(a) for a in (truth, (x + 2 * y) % 7 != 0, disparity, depth)]
