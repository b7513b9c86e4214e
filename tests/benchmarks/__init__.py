"""What the function costs: `make bench`."""
