"""The errors of training on purpose, as one tree; those about one file or one part stand beside their code."""


class TrainingError(Exception):
    """Something cannot be done, or came to nothing. The message gives the reason and the right form."""
