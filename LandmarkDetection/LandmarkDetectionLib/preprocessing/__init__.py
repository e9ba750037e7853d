"""From an image as loaded to what a network sees, following the plan stored in the model's bundle."""
