"""The commands of ``python -m service``, one file each. They import what they need when they run: help is quick."""
