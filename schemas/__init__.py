"""Every shape that crosses a boundary of the function, as marshmallow schemas, without I/O."""
