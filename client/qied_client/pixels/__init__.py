"""What needs Pillow or numpy: arrays and Pillow images as PNG, colour, and results in another format."""
