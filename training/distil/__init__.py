"""Answers of large or several models, from which one recurrent student learns.

Sentiment: a teacher is fine-tuned, its logits are cached, and the student learns from them beside the labels. Names:
several taggers label sentences together, and the student learns from these as from any labelled data. Nothing of a
teacher is exported or served.
"""
