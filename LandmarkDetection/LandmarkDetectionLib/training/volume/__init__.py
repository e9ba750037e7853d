"""Volume models: spine and knee in CT and MR, learnt from phantoms."""
