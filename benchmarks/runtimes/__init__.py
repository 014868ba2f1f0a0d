"""Other runtimes: each in an environment of its own, asked for the logits of served and portable graphs."""
