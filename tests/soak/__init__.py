"""A soak with chaos: `make soak MINUTES=n`."""
