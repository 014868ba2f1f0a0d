"""The commands of ``python -m service``, one file each. They import their modules when they run, so that help is
quick."""
