"""The error of a training as a whole; errors about one file or one part stand beside their code."""


class TrainingError(Exception):
    """A training cannot be done, or came to nothing. The message gives the reason and the right form."""
