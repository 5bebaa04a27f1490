"""Sensors that say when a part comes. One file per kind; the file name is the `kind` of the trigger."""
