"""The parts of the function, in the order in which a request meets them.

receive: HTTP in and out, with answers and exchange. senders: who calls. deliver: an update carried out. providers:
whom we call. tokens and secret_manager: where secrets come from. Used by all: logs, deadline.
"""
