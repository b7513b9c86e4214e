"""The TCP sockets of this machine, as Linux reports them."""

from collections import Counter
from pathlib import Path

# https://github.com/torvalds/linux/blob/v6.6/include/net/tcp_states.h
_STATES = {"01": "ESTABLISHED", "06": "TIME_WAIT", "08": "CLOSE_WAIT"}
_LISTEN = "0A"


def count_client_sockets(port: int) -> Counter[str]:
    """Return the number of sockets that are connected to a port of this machine, by state.

    The result leaves out the states TIME_WAIT and others in which the socket has no owner any more.
    """
    states: Counter[str] = Counter()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, state, *_ = line.split()
        if int(remote.partition(":")[2], 16) == port and _STATES.get(state) in ("ESTABLISHED", "CLOSE_WAIT"):
            states[_STATES[state]] += 1
    return states


def count_waiting_connections(port: int) -> int:
    """Return the number of connections to a port of this machine that the server has not yet accepted."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, queues, *_ = line.split()
        if int(local.partition(":")[2], 16) == port and state == _LISTEN:
            return int(queues.partition(":")[2], 16)
    return 0
