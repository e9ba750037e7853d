"""Order in memory in which convolutions on a processor are fastest, by the number of dimensions."""

import torch

LAYOUT = {2: torch.channels_last, 3: torch.channels_last_3d}
