"""The parts of the function, in the order of a request.

`app` routes a request. `inbound` reads it, and writes the response and the log line. `senders` authenticates the
caller. `hooks` derives updates from a payload. `delivery` carries out the updates at the `providers`, with secrets from
the `secret_store`. `redaction` removes the secrets from everything that the function shows.
"""

#: The version of the function. A test compares it with pyproject.toml, which isn't deployed.
VERSION = "0.1.0"
