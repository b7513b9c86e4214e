"""Every shape that crosses a border of the function. Nothing here does I/O."""
