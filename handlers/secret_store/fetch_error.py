"""The failure of a fetch."""


class FetchError(Exception):
    """A secret can't be fetched.

    The message is the predicate of a sentence, such as `is empty.`, because several settings can refer to one secret:
    the store puts the name of a setting in front of the message. `is_transient` is True if another fetch can succeed.
    """

    def __init__(self, predicate: str, *, is_transient: bool = False) -> None:
        super().__init__(predicate)
        self.is_transient = is_transient
