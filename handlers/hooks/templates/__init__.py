"""Templates of hooks: Jinja2, in a sandbox, with limits on their cost."""
