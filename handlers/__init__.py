"""The parts of the function, in the order in which a request meets them.

receive: HTTP in and out. senders: who calls. deliver: an update carried out. providers: whom we call.
tokens: where secrets come from. Beside them: deadline, logs.
"""
