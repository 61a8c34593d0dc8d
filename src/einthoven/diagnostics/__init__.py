"""What a training run measures about itself, on the device."""
