"""Training: recipes, data, augmentation, losses and one trainer for every network."""
